"""Sends what the ledger planned: the intent is recorded first, then that it is sent, then the call, then its result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.clients.concurrency import gathered
from limiter.clients.dispatcher import Dispatcher, Saga
from limiter.clients.errors import ServiceError
from limiter.db import idle_spells, ledger, pauses, settlement
from limiter.domain.command import Command, CommandState
from limiter.domain.job import Job
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Commands:
    """Sends planned commands to the dispatcher, several models at once, each exactly once whoever tries."""

    dispatcher: Dispatcher
    telemetry: Telemetry
    clock: Callable[[], datetime]
    at_once: int

    async def send_all(self, run: Run, commands: Sequence[Command]) -> None:
        """Send them unless the job is paused meanwhile: what is left is planned and never sent, for saga_poll."""
        planned = [command for command in commands if command.state is CommandState.PLANNED]
        await gathered([partial(self.send, run, command) for command in planned], self.at_once)

    async def send(self, run: Run, command: Command) -> None:
        """Send one planned command and record the result; a lost answer leaves it sent, for saga_poll."""
        with run.isolated(model=command.model_name, model_id=command.model_id, command=command.id):
            sent = await self._mark_sent(run, command)
            if sent is None:
                return
            run.check()
            try:
                saga = await self.dispatcher.send(sent, run.check)
            except ServiceError as error:
                self.telemetry.critical(
                    "command_refused" if error.undone else "command_answer_lost", error, kind=sent.kind
                )
                if error.undone:
                    async with run.write() as connection:
                        await settlement.settle(connection, sent, CommandState.FAILED, self.clock(), str(error))
            else:
                await self._record_saga(run, sent, saga)

    async def _mark_sent(self, run: Run, command: Command) -> Command | None:
        """The command as it is sent; None if the run is to stop, or somebody else was first.

        The time is read anew: a run may have begun long before, and saga_poll judges the call by its age.
        """
        async with run.write() as connection:
            if await run.braked(connection):
                logger.bind(event="command_left").info("{} is not sent: the job is paused", command.kind)
                return None
            at = self.clock()
            if (why := await _forbids(connection, run, command)) is not None:
                await settlement.settle(connection, command, CommandState.FAILED, at, f"never sent: {why}")
                logger.bind(event="command_dropped", kind=str(command.kind)).warning("never sent: {}", why)
                return None
            return replace(command, sent_at=at) if await ledger.mark_sent(connection, command.id, at) else None

    async def _record_saga(self, run: Run, command: Command, saga: Saga) -> None:
        logger.bind(event="command_sent", saga=str(saga.id), kind=command.kind, replicas=command.wanted).info(
            "{} {} accepted as saga {}", command.kind, command.model_name, saga.id
        )
        async with run.write() as connection:
            if await ledger.submitted(connection, command.id, saga.id):
                return
            followed = await ledger.take_up(connection, command.id, saga.id)
        logger.bind(event="late_answer", saga=str(saga.id), kind=command.kind, followed=followed).warning(
            "saga {} was answered after the command was settled; {}",
            saga.id,
            "followed" if followed else "not followed",
        )


async def _forbids(connection: AsyncConnection, run: Run, command: Command) -> str | None:
    """What has come up since the command was planned, so that it is not to be sent; None: nothing."""
    if command.spell_id is not None and not await idle_spells.stays_open(connection, command.spell_id):
        return "its spell was closed"
    planner = Job.RPS_CHECK if command.spell_id is None else Job.IDLE_ENFORCE
    if run.claim.job is not planner and await pauses.is_paused(connection, planner):
        return f"{planner} is paused"
    return None
