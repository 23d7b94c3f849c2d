"""When a job is due: on a grid of its intervals that all replicas share, in the database's time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, or_, select

from limiter.db.tables import job as jobs
from limiter.domain.job import Job

GRID_START = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """Whether a job waits to be run, and the database's time when it said so."""

    due: bool
    database_time: datetime


def due_slot(interval: float) -> ColumnElement[datetime]:
    """The start of the present interval, on a grid that all replicas share."""
    return func.date_bin(timedelta(seconds=interval), func.now(), GRID_START)


def is_due(interval: float) -> ColumnElement[bool]:
    """A condition: due by the row, or the row is from a longer interval than is now configured."""
    return or_(jobs.c.next_due_at <= func.now(), jobs.c.next_due_at > due_slot(interval) + timedelta(seconds=interval))


def claimable(job: Job, interval: float) -> Select[Any]:
    """The job's row to be locked, whether it is due, the present interval, and how many intervals were missed."""
    late = func.extract("epoch", due_slot(interval) - jobs.c.next_due_at) / literal(interval)
    missed = func.greatest(func.floor(late), 0)
    return (
        select(
            jobs,
            is_due(interval).label("due"),
            due_slot(interval).label("due_slot"),
            missed.label("intervals_missed"),
        )
        .where(jobs.c.name == job)
        .with_for_update(skip_locked=True)
    )


def following(slot: datetime, interval: float) -> datetime:
    """The start of the interval after one."""
    return slot + timedelta(seconds=interval)
