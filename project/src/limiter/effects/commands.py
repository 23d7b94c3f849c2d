"""Sends what the ledger planned: the intent is recorded first, then comes the call, then its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from loguru import logger

from limiter.clients.concurrency import gathered
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.errors import NotSent, Rejected, ServiceError
from limiter.db import ledger
from limiter.domain.command import Command, CommandState
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Commands:
    """Sends planned commands to the dispatcher, several models at once, each exactly once."""

    dispatcher: Dispatcher
    telemetry: Telemetry
    at_once: int

    async def send_all(self, run: Run, commands: Sequence[Command]) -> None:
        planned = [command for command in commands if command.state is CommandState.PLANNED]
        await gathered([partial(self.send, run, command) for command in planned], self.at_once)

    async def send(self, run: Run, command: Command) -> None:
        """Send one planned command and record the result; a lost answer leaves it planned, for saga_poll."""
        with run.isolated(model=command.model_name, model_id=command.model_id, command=command.id):
            run.check()
            try:
                saga = await self.dispatcher.send(command)
            except (NotSent, Rejected) as error:
                self.telemetry.critical("command_refused", error, kind=command.kind)
                async with run.write() as connection:
                    await ledger.settle(connection, command.id, CommandState.FAILED, run.now, str(error))
            except ServiceError as error:
                self.telemetry.critical("command_answer_lost", error, kind=command.kind)
            else:
                logger.bind(event="command_sent", saga=str(saga.id), kind=command.kind, replicas=command.replicas).info(
                    "{} {} accepted as saga {}", command.kind, command.model_name, saga.id
                )
                async with run.write() as connection:
                    await ledger.submitted(connection, command.id, saga.id)
