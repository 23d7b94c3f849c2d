"""What the printed reports have in common."""


def counted(count: int, noun: str) -> str:
    """The number with its noun: `1 slot`, `2 slots`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
