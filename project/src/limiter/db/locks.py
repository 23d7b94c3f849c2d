"""One runner per job, behind pgbouncer: the lock, the due row and the epoch.

A transaction-scoped advisory lock, in a guard transaction that stays open for the run, says who may run now. The `job`
row says whether the job is due, so that N replicas run it once per interval. The epoch fences: every claim raises it,
and every write of a run checks it, so that a holder that lost the lock without noticing cannot write.

The guard transaction runs nothing but the lock and its heartbeat: an SQL error in it would drop the lock silently.
The heartbeat repeats `SET LOCAL idle_in_transaction_session_timeout`, which frees the lock of a frozen holder, and,
being a utility statement, leaves no snapshot open that would hold vacuum back. Every transaction that locks a job's row
is marked, so that it can be ended if its client freezes in it. Times are the database's.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from loguru import logger
from sqlalchemy import ColumnElement, Row, Select, Update, and_, func, literal, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db.guard import Guard, LockTiming, Mark, idle_limit, watched
from limiter.db.tables import job as jobs
from limiter.db.tables import job_run
from limiter.domain.action import Job

LOCK_NUMBERS = {job: number for number, job in enumerate(Job, start=1)}
GRID_START = datetime(2000, 1, 1, tzinfo=UTC)


class Cause(StrEnum):
    """Why a run began."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    ORPHAN = "orphan"  # an earlier run of this slot was lost with its replica


class RunState(StrEnum):
    """How a run stands or ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Due:
    """Whether a job waits to be run, and the database's time when it said so."""

    due: bool
    database_time: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """One run, claimed: its epoch is larger than that of any run before."""

    job: Job
    epoch: int
    cause: Cause
    missed: int
    lost: int

    @property
    def run_id(self) -> str:
        return f"{self.job}:{self.epoch}"


@dataclass(frozen=True)
class Locks:
    """Who may run which job, and when; `holder` is new at every start of a process."""

    engine: AsyncEngine
    guards: AsyncEngine
    schema: str
    holder: UUID
    timing: LockTiming
    attempts: int

    async def register(self) -> None:
        """Make sure that each job has its row."""
        rows = [{"name": job, "next_due_at": func.now()} for job in Job]
        async with self.engine.begin() as connection:
            await connection.execute(insert(jobs).values(rows).on_conflict_do_nothing())

    async def due(self, job: Job, every: float, work: ColumnElement[bool] | None = None) -> Due:
        """Ask without a lock whether the job waits to be run; `work` is a further condition."""
        waits = and_(~jobs.c.paused, or_(_is_due(every), jobs.c.running_epoch.is_not(None)))
        query = select(and_(waits, true() if work is None else work), func.clock_timestamp()).where(jobs.c.name == job)
        async with self.engine.connect() as connection:
            waiting, now = (await connection.execute(query)).one()
        return Due(bool(waiting), now)

    @asynccontextmanager
    async def hold(self, job: Job) -> AsyncIterator[Guard | None]:
        """Hold the job's lock; None if another replica does."""
        async with self.guards.connect() as connection:
            held_at = asyncio.get_running_loop().time()
            key = (self._schema_key, LOCK_NUMBERS[job])
            attempt = select(func.pg_try_advisory_xact_lock(*key), idle_limit(self.timing.idle_timeout))
            if not await connection.scalar(attempt):
                yield None
                return
            guard = Guard(connection, self.timing, self._mark(job), held_at)
            await guard.refresh()
            async with watched(connection, guard):
                yield guard

    async def claim(self, job: Job, every: float, cause: Cause) -> Claim | None:
        """Claim a run of a job whose lock is held; None if it is not due any more, or its row is being written."""
        async with self.engine.begin() as connection:
            mark = self._mark(job)
            row = (await connection.execute(_claimable(job, every).add_columns(*mark.columns()))).first()
            if row is None or row.running_epoch is not None:  # a holder before us may have frozen inside a write
                if await mark.end_silent(connection):
                    logger.bind(event="silent_writer_ended", job=str(job)).warning("a silent transaction was ended")
                if row is None:
                    return None
            lost = await _mark_lost(connection, job)
            if cause is Cause.SCHEDULE:
                orphaned = row.running_epoch is not None and row.attempts < self.attempts
                if row.paused or not (row.due or orphaned):
                    await connection.execute(update(jobs).where(jobs.c.name == job).values(running_epoch=None))
                    return None
                cause = Cause.SCHEDULE if row.due else Cause.ORPHAN
            claim = Claim(job, row.epoch + 1, cause, int(row.slots_missed) if cause is Cause.SCHEDULE else 0, lost)
            await connection.execute(_claim(row, claim, every))
            run = {"job": job, "epoch": claim.epoch, "slot": row.slot, "cause": cause, "holder": self.holder}
            await connection.execute(insert(job_run).values(run | {"state": RunState.RUNNING}))
            return claim

    async def finish(self, claim: Claim, state: RunState, error: str | None) -> None:
        """Record the end of a run; an interrupted one stays claimed, so that another replica resumes it at once."""
        async with self._writing(claim.job) as connection:
            ours = and_(job_run.c.job == claim.job, job_run.c.epoch == claim.epoch)
            running = and_(ours, job_run.c.state == RunState.RUNNING)
            ended = {"state": state, "ended_at": func.now(), "error": error}
            await connection.execute(update(job_run).where(running).values(ended))
            if state is not RunState.INTERRUPTED:
                mine = and_(jobs.c.name == claim.job, jobs.c.epoch == claim.epoch)
                await connection.execute(update(jobs).where(mine).values(running_epoch=None))

    @asynccontextmanager
    async def _writing(self, job: Job) -> AsyncIterator[AsyncConnection]:
        """A transaction that locks the job's row, but not for ever if we freeze in it."""
        async with self.engine.begin() as connection:
            await connection.execute(select(*self._mark(job).columns()))
            yield connection

    @property
    def _schema_key(self) -> int:
        return _signed(zlib.crc32(self.schema.encode()))

    def _mark(self, job: Job) -> Mark:
        return Mark(self._schema_key, len(Job) + LOCK_NUMBERS[job], self.timing)

    async def pause(self, job: Job) -> None:
        async with self._writing(job) as connection:
            await connection.execute(update(jobs).where(jobs.c.name == job).values(paused=True))

    async def resume(self, job: Job, at: datetime) -> None:
        """Let the job run again, at once; idle time counts from `at` on."""
        running = {"paused": False, "resumed_at": at, "next_due_at": func.now()}
        paused = and_(jobs.c.name == job, jobs.c.paused)
        async with self._writing(job) as connection:
            await connection.execute(update(jobs).where(paused).values(running))


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


def _slot(every: float) -> ColumnElement[datetime]:
    """The start of the present interval, on a grid that all replicas share."""
    return func.date_bin(timedelta(seconds=every), func.now(), GRID_START)


def _is_due(every: float) -> ColumnElement[bool]:
    """Due by the row, or the row is from a longer interval than is now configured."""
    return or_(jobs.c.next_due_at <= func.now(), jobs.c.next_due_at > _slot(every) + timedelta(seconds=every))


def _claimable(job: Job, every: float) -> Select[Any]:
    late = func.extract("epoch", _slot(every) - jobs.c.next_due_at) / literal(every)
    missed = func.greatest(func.floor(late), 0)
    return (
        select(jobs, _is_due(every).label("due"), _slot(every).label("slot"), missed.label("slots_missed"))
        .where(jobs.c.name == job)
        .with_for_update(skip_locked=True)
    )


def _claim(row: Row[Any], claim: Claim, every: float) -> Update:
    values: dict[str, object] = {"epoch": claim.epoch, "running_epoch": claim.epoch}
    if claim.cause is Cause.SCHEDULE:
        following = row.slot + timedelta(seconds=every)
        values |= {"next_due_at": following, "attempts": 1}
    elif claim.cause is Cause.ORPHAN:
        values |= {"attempts": jobs.c.attempts + 1}
    return update(jobs).where(jobs.c.name == claim.job).values(values)


async def _mark_lost(connection: AsyncConnection, job: Job) -> int:
    """Runs still `running` although we hold the lock lost theirs; returns how many."""
    running = and_(job_run.c.job == job, job_run.c.state == RunState.RUNNING)
    ended = {"state": RunState.LOST, "ended_at": func.now()}
    return (await connection.execute(update(job_run).where(running).values(ended))).rowcount


async def resumed_at(connection: AsyncConnection, *which: Job) -> datetime | None:
    """When the latest pause of these jobs ended, by the clock that decides; None if none was ever paused."""
    latest = select(func.max(jobs.c.resumed_at)).where(jobs.c.name.in_(which))
    at: datetime | None = (await connection.execute(latest)).scalar()
    return at
