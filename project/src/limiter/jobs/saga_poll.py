"""saga_poll: follow every unfinished command to its end, whoever sent it."""

from dataclasses import dataclass
from functools import partial

from loguru import logger

from limiter.clients.concurrency import gathered
from limiter.clients.dispatcher import Dispatcher, SagaEnd
from limiter.clients.registry import Registry
from limiter.db import ledger
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.fleet import Fleet
from limiter.domain.policy import Policy
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

ENDS = {SagaEnd.COMPLETED: CommandState.COMPLETED, SagaEnd.FAILED: CommandState.FAILED}


@dataclass(frozen=True)
class SagaPoll:
    """Settles commands by their sagas, and one whose answer was lost by what the registry shows."""

    dispatcher: Dispatcher
    registry: Registry
    policy: Policy
    telemetry: Telemetry
    at_once: int

    async def __call__(self, run: Run) -> None:
        async with run.read() as connection:
            unfinished = await ledger.unfinished(connection)
        followed = [command for command in unfinished if command.saga_id is not None]
        lost = [command for command in unfinished if command.saga_id is None]
        await gathered([partial(self._follow, run, command) for command in followed], self.at_once)
        if lost:
            fleet = await self.registry.running()
            for command in lost:
                await self._resolve(run, command, fleet)

    async def _follow(self, run: Run, command: Command) -> None:
        with run.isolated(model=command.model_name, model_id=command.model_id, command=command.id):
            assert command.saga_id is not None
            saga = await self.dispatcher.saga(command.saga_id)
            if saga.end is SagaEnd.UNKNOWN:
                self.telemetry.critical("saga_status_unknown", f"saga {saga.id} is {saga.status!r}")
            if saga.end in ENDS:
                await self._settle(run, command, ENDS[saga.end], f"saga {saga.status}")
            else:
                await self._watch_age(run, command, f"saga {saga.id} is still {saga.status}")

    async def _resolve(self, run: Run, command: Command, fleet: Fleet) -> None:
        """The answer was lost, or the sender died: the registry shows whether the command took effect."""
        with run.isolated(model=command.model_name, model_id=command.model_id, command=command.id):
            model = fleet.by_id.get(command.model_id)
            if command.kind is CommandKind.UNINSTALL:
                effect = model is None and fleet.complete
            else:
                effect = model is not None and model.replicas == command.replicas
            if effect:
                await self._settle(run, command, CommandState.COMPLETED, "the registry shows its effect")
            elif run.now - command.planned_at > self.policy.saga_timeout:
                # By now a saga we never heard of would have ended too, so another command is no second one.
                await self._settle(run, command, CommandState.FAILED, "no answer, and no effect in the registry")

    async def _settle(self, run: Run, command: Command, state: CommandState, why: str) -> None:
        async with run.write() as connection:
            if not await ledger.settle(connection, command.id, state, run.now, why):
                return
        logger.bind(event="command_ended", kind=str(command.kind), state=state).info(
            "{} of {} {}: {}", command.kind, command.model_name, state, why
        )
        if state is CommandState.FAILED:
            self.telemetry.critical("command_failed", why, kind=command.kind)

    async def _watch_age(self, run: Run, command: Command, why: str) -> None:
        if run.now - command.planned_at > self.policy.saga_timeout:
            async with run.write() as connection:
                newly = await ledger.mark_stuck(connection, command.id, why)
            if newly:
                self.telemetry.critical("saga_stuck", why, kind=command.kind)
