"""Where all settings come from, and the rules between two of them."""

import os
from collections.abc import Iterable
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Value = TypeVar("Value")

# Each may stand in a file instead, named by the same variable with _FILE: an environment is seen by too many.
SECRETS = ("DATABASE_URL", "MIGRATIONS_DATABASE_URL", "RABBITMQ_URL", "BOOKING_SERVICE_TOKEN")

CLOSE = 0.9  # of 1: about one sign in ten is another, or missing


class FromEnvironment(BaseSettings):
    """Where all settings come from."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        found, problems = dict(values), []
        for name in (name for name in SECRETS if name.lower() in cls.model_fields):
            try:
                secret = from_file(name)
            except ValueError as error:
                problems.append(str(error))
            else:
                found |= {} if secret is None else {name.lower(): secret}
        if problems:
            raise ValueError("\n".join(problems))
        return found


def from_file(name: str) -> str | None:
    """The secret in the file that `<NAME>_FILE` names, without the line feed at its end; None if it names none.

    Raises ValueError if there are both, or the file cannot be read; its text is not part of the message.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return None
    if os.environ.get(name):
        raise ValueError(f"{name} and {name}_FILE are both set: only one of them may be")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"{name}_FILE={path!r}: {why}") from None


def misspelt(fields: Iterable[str]) -> dict[str, str]:
    """The variables of the environment that are nearly those of these fields, each with the one that may be meant."""
    ours = frozenset(name.upper() for name in fields) | {f"{name}_FILE" for name in SECRETS}
    others = {name.upper() for name in os.environ} - ours
    meant = {name: _nearest(name, ours) or ours & {f"{name}_SECONDS"} for name in others}
    return {name: one for name, found in meant.items() for one in found}


@cache  # asked for whenever warnings are shown, and slow
def _nearest(name: str, ours: frozenset[str]) -> list[str]:
    """The one of ours that is nearly this name, if any."""
    return get_close_matches(name, ours, 1, CLOSE)


def given(own: Value | None, fleets: Value) -> Value:
    """A model's own value, or the fleet's where it has none: 0 and false are values."""
    return fleets if own is None else own


def seconds(value: float) -> timedelta:
    """A setting as a duration."""
    return timedelta(seconds=value)


def ordered(rule: str, low: float, high: float) -> None:
    """Raise ValueError if two settings break a rule between them, by name and value."""
    if low > high or (low == high and "<=" not in rule):
        raise ValueError(f"{rule}: broken by {low:g} and {high:g}")
