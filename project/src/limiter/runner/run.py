"""A run of a job: its time, and the only way it may write."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from traceback import clear_frames
from typing import Any

from loguru import logger
from sqlalchemy import Select, and_, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db.engine import DATABASE_ERRORS
from limiter.db.tables import job, job_run
from limiter.runner.claim import Claim
from limiter.runner.guard import Guard, LockLost
from limiter.runner.steady import SteadyClock
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Run:
    """One claimed run; `now` is read once, when it begins, and is the time for every decision in it."""

    claim: Claim
    now: datetime
    guard: Guard
    engine: AsyncEngine
    telemetry: Telemetry
    steady: SteadyClock | None = None

    def check(self) -> None:
        """Raise LockLost unless this run may still act; to be called right before every effect outside."""
        self.guard.check()
        if self.steady is not None:
            self.steady.check()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A short transaction that only commits while no later run of the job was claimed; never open over a call.

        Raises LockLost.
        """
        self.check()
        async with self.engine.begin() as connection:
            if (await connection.execute(self._fence())).first() is None:
                raise LockLost(f"epoch {self.claim.epoch} of {self.claim.job} is over: another replica took the job")
            yield connection

    def _fence(self) -> Select[Any]:
        """The job's row while it carries this run's epoch, and that epoch is this replica's."""
        this = and_(job_run.c.job == job.c.name, job_run.c.epoch == job.c.epoch)
        fence = select(job.c.epoch, *self.guard.mark.columns()).select_from(job.join(job_run, this))
        mine = fence.where(job.c.name == self.claim.job, job.c.epoch == self.claim.epoch)
        return mine.where(job_run.c.replica_id == self.claim.replica_id).with_for_update(read=True, of=job)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as connection:
            yield connection

    async def braked(self, connection: AsyncConnection | None = None) -> bool:
        """Whether the job was paused after this run began: then the run takes no further step.

        Asked within a write, whose fence a pause has to wait for, no step comes after the pause.
        """
        if connection is None:
            async with self.read() as connection:
                return await self.braked(connection)
        this = and_(job_run.c.job == job.c.name, job_run.c.epoch == self.claim.epoch)
        paused = select(literal(True)).select_from(job.join(job_run, this)).where(job.c.name == self.claim.job)
        return bool(await connection.scalar(paused.where(job.c.paused, job.c.paused_at > job_run.c.started_at)))

    @contextmanager
    def isolated(self, **ids: object) -> Iterator[None]:
        """One item of many: what goes wrong with it is counted and logged with its ids, and stops nothing else."""
        with logger.contextualize(**{name: str(value) for name, value in ids.items()}):
            try:
                yield
            except (LockLost, *DATABASE_ERRORS):
                raise  # not the item's fault: without lock or database no other item could go on
            except Exception as error:
                logger.opt(exception=error).debug("item failed")
                self.telemetry.critical(getattr(error, "reason", "item_failed"), f"{type(error).__name__}: {error}")
                let_go(error)


def let_go(error: BaseException | None) -> None:
    """Drop what the failed functions were working on: tracebacks would keep whole fleets until garbage is collected."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
