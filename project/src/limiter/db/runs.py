"""A run of a job: its time, and the only way it may write."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from loguru import logger
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db.engine import DATABASE_ERRORS
from limiter.db.guard import LockLost, Mark
from limiter.db.locks import Claim
from limiter.db.tables import job
from limiter.domain.survey import Notes
from limiter.telemetry import Telemetry


class Lease(Protocol):
    """What a run needs of the lock it holds."""

    mark: Mark

    def check(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """One claimed run; `now` is read once, when it begins, and is the time for every decision in it."""

    claim: Claim
    now: datetime
    lease: Lease
    engine: AsyncEngine
    telemetry: Telemetry
    notes: Notes = field(default_factory=Notes)

    def check(self) -> None:
        """Raise LockLost unless this run may still act; to be called right before every effect outside."""
        self.lease.check()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A short transaction that only commits while no later run of the job was claimed; never held over a call."""
        self.check()
        async with self.engine.begin() as connection:
            fence = select(job.c.epoch, *self.lease.mark.columns())
            mine = fence.where(job.c.name == self.claim.job, job.c.epoch == self.claim.epoch)
            if (await connection.execute(mine.with_for_update(read=True))).first() is None:
                raise LockLost(f"epoch {self.claim.epoch} of {self.claim.job} is over: another replica took the job")
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as connection:
            yield connection

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
