"""Reads the settings from the environment, and says what is wrong with it."""

from typing import Any, TypeVar

from pydantic import ValidationError

from limiter.config.base import SECRETS, FromEnvironment
from limiter.config.settings import Settings

Loaded = TypeVar("Loaded", bound=FromEnvironment)


class WrongSettings(Exception):
    """The environment is wrong; the text names each variable, its value and the rule it breaks."""


def load() -> Settings:
    """The settings from the environment; raises WrongSettings."""
    return load_as(Settings)


def load_as(kind: type[Loaded], **given: Any) -> Loaded:
    """Settings of one kind from the environment, or `given` by their field names; raises WrongSettings."""
    try:
        return kind(**given)
    except ValidationError as error:
        raise WrongSettings("\n".join(_problem_line(dict(problem)) for problem in error.errors())) from None


def _problem_line(problem: dict[str, Any]) -> str:
    """One line for one problem: the variable, its value (secrets hidden), the rule."""
    name = str(problem["loc"][0]).upper() if problem["loc"] else ""
    rule = str(problem["msg"]).removeprefix("Value error, ")
    if not name or problem["type"] == "missing":
        return f"{name} is not set: it is required" if name else rule
    inner = ".".join(str(part) for part in problem["loc"][1:])
    value = repr(problem.get("input"))
    if name in SECRETS or ("://" in value and "@" in value):  # a user and a password may stand in any URL
        value = "(hidden)"
    return f"{name}{f' [{inner}]' if inner else ''}={value}: {rule}"
