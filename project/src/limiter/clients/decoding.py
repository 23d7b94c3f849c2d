"""What an answer must be made of: JSON, validated, with a complaint that names the place and the rule."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Generic, TypeVar

from pydantic import StringConstraints, TypeAdapter, ValidationError

from limiter.clients.errors import ContractBroken
from limiter.computing import computed

T = TypeVar("T")
# Postgres cannot store NUL: one such name would stop the writes for all.
Storable = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
# Ids and names are keys of tables, and of those Postgres takes 2,704 bytes: of two together, at four bytes a character.
LONGEST = 300  # characters
Key = Annotated[Storable, StringConstraints(max_length=LONGEST)]
NUL = b"\\u0000"  # as JSON must write it


class KnownPages(Generic[T]):
    """What the pages of a list said, each the same object as long as its page is the same to the byte."""

    def __init__(self, sound: Callable[[bytes], T | None]) -> None:
        """`sound` understands a whole page at once, or returns None."""
        self._sound = sound
        self._known: dict[int, tuple[int, int, T]] = {}

    async def read(self, number: int, raw: bytes) -> T | None:
        """What this page says; None if it must be read entry by entry, so that what is wrong is named each time."""
        # Of 64 bits, and one that keeps the interpreter's lock: after any other the loop would wait to have it back.
        digest = hash(raw)
        known = self._known.get(number)
        if known is not None and known[:2] == (len(raw), digest):
            return known[2]
        read = None if NUL in raw else await computed(self._sound, raw)
        if read is None:
            self._known.pop(number, None)
        else:
            self._known[number] = (len(raw), digest, read)
        return read


def decode(adapter: TypeAdapter[T], raw: bytes, service: str, what: str) -> T:
    """Parse and validate JSON; raises ContractBroken that names the place and the rule."""
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        problem = error
    # Half of a surrogate pair is lawful JSON, though no text: it spoils its own entry, and not the whole list.
    if problem.errors()[0]["type"] == "json_invalid":
        with suppress(ValueError, RecursionError):
            return adapter.validate_python(json.loads(raw))
    raise ContractBroken(f"{service}: {what}: {describe_validation(problem)}", service)


def describe_validation(error: ValidationError) -> str:
    """The first of a validation's complaints, in one line."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "body"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{more}"
