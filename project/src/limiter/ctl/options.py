"""Options of the commands: which job, until when, and who asks for it and why."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from limiter.domain.job import Job

JOB = click.Choice([str(job) for job in Job])
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
Function = TypeVar("Function", bound=Callable[..., None])


class Duration(click.ParamType[timedelta]):
    """Seconds, or a number with its unit: 90m, 2h, 3d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd]?)", str(value))
        if not found:
            self.fail(f"{value!r} is neither seconds nor such as 90m, 2h, 3d", param, ctx)
        return timedelta(seconds=float(found[1]) * UNITS[found[2] or "s"])


class AboveZero(click.FloatRange):
    """A number above 0: `nan` is not, though it is in every range, being neither below nor above anything."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number above 0", param, ctx)
        return number


def end(until: str | None, lasting: timedelta | None) -> str | None:
    """The moment that either `--until` or `--for` tells."""
    if (until is None) == (lasting is None):
        raise click.UsageError("give either --until or --for")
    return until if lasting is None else (datetime.now(UTC) + lasting).isoformat()


def signed(command: Function) -> Function:
    """Options of a command that changes something: who sends it, and why."""
    command = click.option("--reason", metavar="TEXT", help="Why; stored and logged.")(command)
    return click.option("--by", envvar="USER", metavar="NAME", help="Who asks; by default $USER.")(command)
