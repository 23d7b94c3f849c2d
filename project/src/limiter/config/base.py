"""Where all settings come from, and the rules between two of them."""

from typing import TypeVar

from pydantic_settings import BaseSettings, SettingsConfigDict

Value = TypeVar("Value")


class FromEnvironment(BaseSettings):
    """Where all settings come from."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)


def given(own: Value | None, fleets: Value) -> Value:
    """A model's own value, or the fleet's where it has none: 0 and false are values."""
    return fleets if own is None else own


def ordered(rule: str, low: float, high: float) -> None:
    """Raise ValueError if two settings break a rule between them, by name and value."""
    if low > high or (low == high and "<=" not in rule):
        raise ValueError(f"{rule}: broken by {low:g} and {high:g}")
