"""What counts as an e-mail address."""

import re

_ADDRESS = re.compile(r"[^@\s\x00]+@[^@\s\x00]+")


def is_address(text: str) -> bool:
    """Whether the text has the form of an address: one @ with something on both sides, and no blank."""
    return _ADDRESS.fullmatch(text) is not None
