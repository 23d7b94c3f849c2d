"""When a job with a calendar runs: the fire times of its cron expression, on the wall clock of its time zone.

A wall time that comes twice, when clocks are put back, counts once, the first time; one that is skipped, when they are
put forward, counts as the instant of the jump. Only an expression for every hour goes on by real time: half-hourly
stays half-hourly.
"""

from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger

from limiter.domain.wall_clock import instant

JUST_AFTER = timedelta(microseconds=1)
MOST_MISSED = 1000  # fire times; more are not counted: each takes a while to find


def next_fire(calendar: CronTrigger, after: datetime) -> datetime:
    """The first fire time after a moment."""
    if _every_hour(calendar):
        return _next(calendar, after)
    flat = copy(calendar)
    flat.timezone = UTC
    wall = after.astimezone(calendar.timezone).replace(tzinfo=UTC, fold=0)
    while True:
        wall = _next(flat, wall)
        fire = instant(wall.replace(tzinfo=None), calendar.timezone)
        if fire > after:
            return fire


def _every_hour(calendar: CronTrigger) -> bool:
    return any(field.name == "hour" and str(field) == "*" for field in calendar.fields)


def _next(calendar: CronTrigger, after: datetime) -> datetime:
    found: datetime | None = calendar.get_next_fire_time(None, after + JUST_AFTER)
    assert found is not None, f"{calendar} has no fire time after {after}"  # the settings refuse such an expression
    return found.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class FireTimes:
    """The fire times that wait to be run: the latest one, and how many before it were missed."""

    latest: datetime
    missed: int


def waiting(calendar: CronTrigger, since: datetime, now: datetime) -> FireTimes | None:
    """The fire times from `since` to `now`; None if there are none, so that nothing is due."""
    fire = next_fire(calendar, since - JUST_AFTER)
    if fire > now:
        return None
    missed = 0
    while (later := next_fire(calendar, fire)) <= now:
        fire, missed = later, missed + 1
        if missed == MOST_MISSED:
            break
    return FireTimes(fire, missed)
