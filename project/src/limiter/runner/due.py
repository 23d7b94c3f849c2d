"""When a job is due, in the database's time: on a grid of its intervals that all replicas share, or by a calendar."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from sqlalchemy import ColumnElement, Row, Select, and_, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db.tables import job as jobs
from limiter.db.tables import job_run
from limiter.domain.job import Job
from limiter.runner.calendar import JUST_AFTER, next_fire, waiting

GRID_START = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Due:
    """Whether a job waits to be run, the database's time when it said so, and how many runs of any job were claimed.

    `overlooked` is a fire time of its calendar that the row would let pass, since it is from a sparser calendar.
    """

    due: bool
    database_time: datetime
    next_due_at: datetime
    runs: int
    overlooked: datetime | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether it is a job's turn by schedule: for which due slot, how many it missed before, and when the next is."""

    due: bool
    slot: datetime
    missed: int
    following: datetime


def due_slot(interval: float) -> ColumnElement[datetime]:
    """The start of the present interval, on a grid that all replicas share."""
    return func.date_bin(timedelta(seconds=interval), func.now(), GRID_START)


def is_due(interval: float) -> ColumnElement[bool]:
    """A condition: due by the row, or the row is from a longer interval than is now configured."""
    return or_(jobs.c.next_due_at <= func.now(), jobs.c.next_due_at > due_slot(interval) + timedelta(seconds=interval))


async def ask(
    engine: AsyncEngine,
    job: Job,
    interval: float,
    has_work: ColumnElement[bool] | None = None,
    calendar: CronTrigger | None = None,
) -> Due:
    """Ask without a lock whether the job waits to be run; `has_work` is a further condition."""
    allowed = and_(~jobs.c.paused, true() if has_work is None else has_work)
    every = jobs.alias("every")
    runs = select(func.sum(every.c.epoch)).scalar_subquery()
    columns = (allowed, is_due(interval), jobs.c.running_epoch, jobs.c.next_due_at, func.clock_timestamp(), runs)
    async with engine.connect() as connection:
        row = (await connection.execute(select(*columns).where(jobs.c.name == job))).one()
    may_run, due, running_epoch, next_due_at, now, claimed = row
    overlooked = None
    if calendar is not None:
        due = next_fire(calendar, next_due_at - JUST_AFTER) <= now
        coming = next_fire(calendar, now)
        overlooked = coming if coming < next_due_at else None
    return Due(bool(may_run and (due or running_epoch is not None)), now, next_due_at, int(claimed), overlooked)


async def last_claim(connection: AsyncConnection, job: Job) -> tuple[int, bool]:
    """The epoch of the job's last claim, and whether that run has ended."""
    query = select(jobs.c.epoch, jobs.c.running_epoch.is_(None)).where(jobs.c.name == job)
    epoch, ended = (await connection.execute(query)).one()
    return int(epoch), bool(ended)


def claimable(job: Job, interval: float) -> Select[Any]:
    """The job's row to be locked, what the grid says of it, the time, and the due slot of its last run."""
    late = func.extract("epoch", due_slot(interval) - jobs.c.next_due_at) / literal(interval)
    missed = func.greatest(func.floor(late), 0)
    last_run = and_(job_run.c.job == jobs.c.name, job_run.c.epoch == jobs.c.epoch)
    return (
        select(
            jobs,
            is_due(interval).label("due"),
            due_slot(interval).label("due_slot"),
            missed.label("intervals_missed"),
            func.now().label("now"),
            select(job_run.c.due_slot).where(last_run).scalar_subquery().label("last_slot"),
        )
        .where(jobs.c.name == job)
        .with_for_update(skip_locked=True)
    )


def turn_of(row: Row[Any], interval: float, calendar: CronTrigger | None) -> Turn:
    """What a locked row of `claimable` says, on the grid or by the calendar."""
    if calendar is None:
        following = row.due_slot + timedelta(seconds=interval)
        return Turn(row.due, row.due_slot, int(row.intervals_missed), following)
    found, following = waiting(calendar, row.next_due_at, row.now), next_fire(calendar, row.now)
    if found is None:
        return Turn(False, row.last_slot or row.now, 0, following)
    return Turn(True, found.latest, found.missed, following)
