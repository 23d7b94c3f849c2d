"""What each control command does: its own short transactions, idempotent, since a message may be delivered twice."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.api import keeping, settling
from limiter.api.answers import Answer, Refused
from limiter.api.explaining import explain
from limiter.api.messages import (
    AllowSurgeRequest,
    ControlRequest,
    ExplainRequest,
    JobRequest,
    KeepRequest,
    Outcome,
    SettleRequest,
    StatusRequest,
    UnkeepRequest,
    WithdrawRequest,
)
from limiter.api.status import StatusReader
from limiter.api.status_page import lines
from limiter.db import surges
from limiter.domain.shard import EVERY_MODEL, Shard
from limiter.effects.closing import SpellClosing
from limiter.runner.claim import RunState
from limiter.runner.job_table import JobTable
from limiter.runner.scheduler import JobScheduler


class WrongClock(Exception):
    """This replica's clock is wrong, and the command depends on it."""


@dataclass(frozen=True)
class Handlers:
    """Carries out commands; one that depends on the time is not obeyed by a replica whose clock is wrong.

    `patience` is the seconds to wait for a job's lock, `most_changes` how many lines of a kind an explanation has,
    `longest_keep` how far ahead a keep may end.
    """

    engine: AsyncEngine
    scheduler: JobScheduler
    table: JobTable
    closing: SpellClosing
    clock: Callable[[], datetime]
    patience: float
    most_changes: int
    longest_keep: timedelta
    status_reader: StatusReader
    shard: Shard = EVERY_MODEL
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def carry_out(self, request: ControlRequest) -> Answer:
        """Do what is asked; raises Refused, and what the database raises while it is away."""
        of_model = (ExplainRequest, KeepRequest, UnkeepRequest, SettleRequest, WithdrawRequest)
        if isinstance(request, of_model) and not self.shard.minds(request.model):
            whose = f"{self.shard.of_name(request.model)}/{self.shard.of}"
            raise Refused(f"{request.command}.model: {request.model!r} is minded by SHARD={whose}, not by {self.shard}")
        try:
            return await HANDLERS[request.command](self, request)
        except WrongClock as error:
            return Answer("failed", str(error))

    def now(self) -> datetime:
        """The clock that decides; raises WrongClock if it is off the database's."""
        if self.scheduler.skewed:
            raise WrongClock("the clock of the replica that got this command is off the database's clock")
        return self.clock()

    async def run_job(self, request: JobRequest) -> Answer:
        report = await self.scheduler.run_manually(request.job, self.patience)
        if report is None:
            return Answer("busy", f"another run of {request.job} had the lock for {self.patience:g} s")
        outcome: Outcome = "completed" if report.state is RunState.COMPLETED else "failed"
        return Answer(outcome, report.detail, report.run_id)

    async def pause_job(self, request: JobRequest) -> Answer:
        """Pause a job, whatever the clock says: a brake must always work."""
        await self.table.pause(request.job, request.by, request.reason)
        return Answer("paused")

    async def resume_job(self, request: JobRequest) -> Answer:
        await self.table.resume(request.job, self.now())
        return Answer("resumed")

    async def explain(self, request: ExplainRequest) -> Answer:
        async with self.one_at_a_time, self.engine.connect() as connection:  # however many ask, the jobs keep theirs
            text = await explain(connection, request.model, self.clock(), self.most_changes)
        if text is None:
            return Answer("failed", f"nothing was ever decided about a model named {request.model!r}")
        return Answer("completed", text)

    async def status(self, request: StatusRequest) -> Answer:
        async with self.one_at_a_time:
            return Answer("completed", lines(await self.status_reader.read()))

    async def keep(self, request: KeepRequest) -> Answer:
        return await keeping.keep(self.engine, request, self.now(), self.longest_keep)

    async def unkeep(self, request: UnkeepRequest) -> Answer:
        return await keeping.unkeep(self.engine, request, self.now())

    async def allow_surge(self, request: AllowSurgeRequest) -> Answer:
        now = self.now()
        async with self.engine.begin() as connection:
            allowed = await surges.allow(connection, now, request.by)
        if not allowed:
            return Answer("failed", "there is no surge to allow")
        return Answer("completed", f"allowed: {' and '.join(allowed)}")

    async def settle(self, request: SettleRequest) -> Answer:
        return await settling.settle(self.engine, request, self.now())

    async def withdraw(self, request: WithdrawRequest) -> Answer:
        return await settling.withdraw(self.engine, self.closing, request, self.now())


# What carries out which command; a test keeps it equal to the commands of the messages.
HANDLERS: dict[str, Callable[[Handlers, Any], Awaitable[Answer]]] = {
    "run_job": Handlers.run_job,
    "pause_job": Handlers.pause_job,
    "resume_job": Handlers.resume_job,
    "explain": Handlers.explain,
    "status": Handlers.status,
    "keep": Handlers.keep,
    "unkeep": Handlers.unkeep,
    "allow_surge": Handlers.allow_surge,
    "settle": Handlers.settle,
    "withdraw": Handlers.withdraw,
}
