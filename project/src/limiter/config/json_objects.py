"""The kind of settings that are JSON objects."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

Value = TypeVar("Value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON itself lets a name stand twice, and the last one count: of two budgets, or rules, one would be ignored."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def _json(value: Any) -> Any:
    try:
        return json.loads(value, object_pairs_hook=_object) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be a JSON object: {error}") from None


Json = Annotated[Value, NoDecode, BeforeValidator(_json)]
