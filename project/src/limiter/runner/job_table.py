"""The job table: when a job is due, who runs it, and how its runs ended.

Due times lie on a grid that all replicas share, or are those of a calendar: N replicas run a job once for each. The
epoch fences: every claim raises it, and every write of a run checks it, so that a runner that lost the lock without
noticing cannot write.
Every transaction that locks a job's row is marked, so that it can be ended if its client freezes in it. Times are the
database's.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apscheduler.triggers.cron import CronTrigger
from loguru import logger
from sqlalchemy import ColumnElement, Row, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db import settlement
from limiter.db.tables import job as jobs
from limiter.domain.job import Job
from limiter.runner import run_rows
from limiter.runner.claim import Cause, Claim, RunState
from limiter.runner.due import Due, ask, claimable, turn_of
from limiter.runner.keys import LockKeys


@dataclass(frozen=True)
class JobTable:
    """The jobs' rows; `replica_id` is new at every start of a process, `attempts` bounds the runs of one interval."""

    engine: AsyncEngine
    keys: LockKeys
    replica_id: UUID
    attempts: int

    async def register(self) -> None:
        """Make sure that each job has its row."""
        rows = [{"name": job, "next_due_at": func.now()} for job in Job]
        async with self.engine.begin() as connection:
            await connection.execute(insert(jobs).values(rows).on_conflict_do_nothing())

    async def due(
        self,
        job: Job,
        interval: float,
        has_work: ColumnElement[bool] | None = None,
        calendar: CronTrigger | None = None,
    ) -> Due:
        """Ask without a lock whether the job waits to be run; `has_work` is a further condition."""
        found = await ask(self.engine, job, interval, has_work, calendar)
        if found.overlooked is not None:
            unchanged = and_(jobs.c.name == job, jobs.c.next_due_at == found.next_due_at)
            async with self._writing(job) as connection:
                await connection.execute(update(jobs).where(unchanged).values(next_due_at=found.overlooked))
        return found

    async def claim(
        self,
        job: Job,
        interval: float,
        cause: Cause,
        calendar: CronTrigger | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Claim | None:
        """Claim a run, with the job's lock; None if it is not due any more, or its row is being written.

        `check` raises if the lock may be lost: one that was frozen since then must not take the job from its runner.
        """
        async with self.engine.begin() as connection:
            row = await self._lock_row(connection, job, interval)
            check()
            if row is None:
                return None
            lost, turn = await run_rows.mark_lost(connection, job), turn_of(row, interval, calendar)
            if cause is Cause.SCHEDULE:
                orphaned = row.running_epoch is not None and row.attempts < self.attempts
                if row.paused or not (turn.due or orphaned):
                    await connection.execute(update(jobs).where(jobs.c.name == job).values(running_epoch=None))
                    return None
                cause = Cause.SCHEDULE if turn.due else Cause.ORPHAN
            missed = turn.missed if cause is Cause.SCHEDULE else 0
            claim = Claim(job, row.epoch + 1, self.replica_id, cause, missed, lost)
            await run_rows.begin(connection, claim, turn)
            return claim

    async def _lock_row(self, connection: AsyncConnection, job: Job, interval: float) -> Row[Any] | None:
        """The job's row, locked; None while another transaction has it."""
        mark = self.keys.mark(job)
        row = (await connection.execute(claimable(job, interval).add_columns(*mark.columns()))).first()
        # The runner before us may have frozen inside a write.
        if (row is None or row.running_epoch is not None) and await mark.end_silent(connection):
            logger.bind(event="silent_writer_ended", job=str(job)).warning("a silent transaction was ended")
        return row

    async def finish(self, claim: Claim, state: RunState, error: str | None) -> None:
        """Record the end of a run; an interrupted one stays claimed, so that another replica resumes it at once."""
        async with self._writing(claim.job) as connection:
            await run_rows.end(connection, claim, state, error)

    async def put_back(self, at: datetime) -> None:
        """The database was put back to an earlier state: what people said and what was sent since then is not known.

        So idle time counts from `at` on, and no command is sent that the database says was never sent.
        """
        idle = jobs.c.name.in_((Job.IDLE_WARNING, Job.IDLE_ENFORCE))
        async with self.engine.begin() as connection:
            for job in (Job.IDLE_WARNING, Job.IDLE_ENFORCE):
                await connection.execute(select(*self.keys.mark(job).columns()))
            await connection.execute(update(jobs).where(idle).values(resumed_at=at))
            await settlement.drop_unsent(connection, at, "never sent, as far as a database that was put back knows")

    @asynccontextmanager
    async def _writing(self, job: Job) -> AsyncIterator[AsyncConnection]:
        """A transaction that locks the job's row, but not for ever if we freeze in it."""
        async with self.engine.begin() as connection:
            await connection.execute(select(*self.keys.mark(job).columns()))
            yield connection

    async def pause(self, job: Job, by: str | None = None, reason: str | None = None) -> None:
        """Let no run of the job begin, and a run in progress take no further step; `by` whom and why is recorded."""
        # Not now(): this may have to wait for the claim of a run that it is to stop, and must lie after its beginning.
        paused = {"paused": True, "paused_at": func.clock_timestamp(), "paused_by": by, "paused_reason": reason}
        async with self._writing(job) as connection:
            await connection.execute(update(jobs).where(jobs.c.name == job).values(paused))

    async def resume(self, job: Job, at: datetime) -> None:
        """Let the job run again, at once if it missed an interval; idle time counts from `at` on."""
        running = {"paused": False, "resumed_at": at, "next_due_at": func.greatest(jobs.c.next_due_at, func.now())}
        running |= {"paused_at": None, "paused_by": None, "paused_reason": None}
        paused = and_(jobs.c.name == job, jobs.c.paused)
        async with self._writing(job) as connection:
            await connection.execute(update(jobs).where(paused).values(running))
