"""What the services have in common at the wire: refusals in FastAPI's shape, checked query parameters, dates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Json = dict[str, Any]
Moment = int | float | datetime  # Unix seconds, or a datetime with a zone


class Invalid(Exception):
    """A request outside the contract, answered with 422 and an HTTPValidationError."""

    def __init__(self, place: str, name: str, message: str) -> None:
        """`place` is query, path or body; `name` the value's name in it."""
        super().__init__(f"{place}.{name}: {message}")
        self.problem: Json = {"loc": [place, name], "msg": message, "type": "value_error"}


async def answer_invalid(request: Request, error: Exception) -> Response:
    """The 422 answer to an `Invalid`."""
    assert isinstance(error, Invalid)
    return JSONResponse({"detail": [error.problem]}, 422)


async def answer_refusal(request: Request, error: Exception) -> Response:
    """Any other refusal, as JSON with a `detail` (Starlette's own would be plain text)."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


def optional_number(request: Request, name: str) -> int | None:
    """A whole number of the query, None if it is not given; raises Invalid."""
    text = request.query_params.get(name)
    try:
        return None if text is None else int(text)
    except ValueError:
        raise Invalid("query", name, f"{text!r} is not a whole number") from None


def number(request: Request, name: str, default: int, at_least: int, at_most: int | None = None) -> int:
    """A whole number of the query within its bounds, both included; raises Invalid."""
    given = optional_number(request, name)
    value = default if given is None else given
    if value < at_least:
        raise Invalid("query", name, f"{value} is less than {at_least}")
    if at_most is not None and value > at_most:
        raise Invalid("query", name, f"{value} is more than {at_most}")
    return value


def choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """One of the words that the query may give, the first by default; raises Invalid."""
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise Invalid("query", name, f"{value!r} is none of {', '.join(choices)}")
    return value


def uuid(value: object, place: str, name: str) -> UUID:
    """A UUID given as text; raises Invalid."""
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError:
        raise Invalid(place, name, f"{value!r} is not a UUID") from None


def unix_seconds(moment: Moment) -> int:
    """Whole Unix seconds of a moment."""
    return int(moment.timestamp() if isinstance(moment, datetime) else moment)


def iso(at: float) -> str:
    """A moment given in Unix seconds as an ISO date-time with its zone."""
    return datetime.fromtimestamp(at, UTC).isoformat()
