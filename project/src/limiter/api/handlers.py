"""What each control command does: its own short transactions, idempotent, since a message may be delivered twice."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.api.explaining import explain, moment
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
from limiter.api.status import StatusReader, lines
from limiter.db import idle_spells, keeps, settlement, surges
from limiter.domain.audit import counted
from limiter.domain.command import Command, CommandState
from limiter.domain.keep import Keep
from limiter.domain.shard import EVERY_MODEL, Shard
from limiter.effects.closing import SpellClosing
from limiter.runner.claim import RunState
from limiter.runner.job_table import JobTable
from limiter.runner.scheduler import JobScheduler


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    outcome: Outcome
    detail: str | None = None
    run_id: str | None = None


class Refused(Exception):
    """A command breaks a rule; the text tells field, value and rule."""


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

    async def carry_out(self, request: ControlRequest) -> Answer:
        """Do what is asked; raises Refused, and what the database raises while it is away."""
        if isinstance(request, (ExplainRequest, KeepRequest, UnkeepRequest)) and not self.shard.minds(request.model):
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
        async with self.engine.connect() as connection:
            text = await explain(connection, request.model, self.clock(), self.most_changes)
        if text is None:
            return Answer("failed", f"nothing was ever decided about a model named {request.model!r}")
        return Answer("completed", text)

    async def status(self, request: StatusRequest) -> Answer:
        return Answer("completed", lines(await self.status_reader.read()))

    async def keep(self, request: KeepRequest) -> Answer:
        now = self.now()
        self._check_until(request.until, now)
        new = Keep(request.model, request.user_id, now, request.until, request.reason, request.by)
        async with self.engine.begin() as connection:
            until = await keeps.add(connection, new)
        return Answer("completed", f"{request.model} is kept for {_whose(request.user_id)} until {moment(until)} UTC")

    def _check_until(self, until: datetime, now: datetime) -> None:
        if until <= now:
            raise Refused(f"keep.until: {until.isoformat()} is not in the future: it is {now.isoformat()}")
        if until - now > self.longest_keep:
            most = f"KEEP_LONGEST_SECONDS ({self.longest_keep.total_seconds():g}) from now, {now.isoformat()}"
            raise Refused(f"keep.until: {until.isoformat()} is later than {most}")

    async def unkeep(self, request: UnkeepRequest) -> Answer:
        now = self.now()
        async with self.engine.begin() as connection:
            ended = await keeps.end(connection, request.model, request.user_id, now)
        whose = f"{request.model!r} for {_whose(request.user_id)}"
        if not ended:
            return Answer("failed", f"there is no keep in force of {whose}")
        return Answer("completed", f"{counted(ended, 'keep')} of {whose} ended; idle time counts anew from now")

    async def allow_surge(self, request: AllowSurgeRequest) -> Answer:
        now = self.now()
        async with self.engine.begin() as connection:
            allowed = await surges.allow(connection, now, request.by)
        if not allowed:
            return Answer("failed", "there is no surge to allow")
        return Answer("completed", f"allowed: {' and '.join(allowed)}")

    async def settle(self, request: SettleRequest) -> Answer:
        now, state = self.now(), CommandState(request.outcome)
        async with self.engine.begin() as connection:
            why = f"by hand: {request.signature}"
            settled = await settlement.settle_by_hand(connection, request.model, state, now, why)
        if not settled:
            return Answer("failed", f"there is no unfinished command for a model named {request.model!r}")
        for command in settled:
            _log_settled(command, request)
        return Answer("completed", "\n".join(f"{_of(command)}: {state}" for command in settled))

    async def withdraw(self, request: WithdrawRequest) -> Answer:
        now = self.now()
        async with self.engine.begin() as connection:
            spells = (await idle_spells.open_spells(connection)).values()
            theirs = [one for one in spells if (one.model_name, one.user.id) == (request.model, request.user_id)]
            why = f"by hand: {request.signature}"
            ends = [(one.model_id, await self.closing.withdraw_by_hand(connection, one, now, why)) for one in theirs]
        closed = [f"model {id}: {how}" for id, how in ends if how is not None]
        if not closed:
            return Answer("failed", f"user {request.user_id} has no open idle spell of {request.model!r}")
        return Answer("completed", "\n".join(closed))


def _whose(user_id: UUID | None) -> str:
    return f"user {user_id}" if user_id else "every user"


def _of(command: Command) -> str:
    return f"{command.kind} of model {command.model_id}, planned {moment(command.planned_at)} UTC"


def _log_settled(command: Command, request: SettleRequest) -> None:
    """One line for a command that a person ended, with its saga, so that what he saw can be looked up."""
    ids = {"command_id": str(command.id), "model_id": str(command.model_id), "saga_id": str(command.saga_id)}
    bound = logger.bind(event="settled_by_hand", model=command.model_name, by=request.by, reason=request.reason, **ids)
    bound.warning("{} of {}: {} by hand", command.kind, command.model_name, request.outcome)


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
