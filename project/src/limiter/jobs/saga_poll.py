"""saga_poll: follow every unfinished command to its end, whoever planned it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import assert_never
from uuid import UUID

from loguru import logger

from limiter.clients.concurrency import gathered
from limiter.clients.dispatcher import Dispatcher, SagaEnd
from limiter.clients.errors import NotFound, ServiceError
from limiter.clients.registry import Registry
from limiter.computing import computed
from limiter.db import ledger, scaling_states, settlement
from limiter.domain.budget import Grant, not_granted, whose
from limiter.domain.command import Command, CommandKind, CommandState, Effect, FollowUp, effect_of, follow_up
from limiter.domain.fleet import Fleet
from limiter.domain.policy import Policy
from limiter.effects.commands import Commands
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

ENDS = {SagaEnd.COMPLETED: CommandState.COMPLETED, SagaEnd.FAILED: CommandState.FAILED}


@dataclass(frozen=True)
class SagaPoll:
    """Sends what was never sent, settles commands by their sagas, and where these are lost by the registry.

    A call to the dispatcher takes at most `in_flight`.
    """

    dispatcher: Dispatcher
    registry: Registry
    commands: Commands
    policy: Policy
    telemetry: Telemetry
    in_flight: timedelta
    at_once: int

    async def __call__(self, run: Run) -> None:
        async with run.read() as connection:
            unfinished = await ledger.unfinished(connection)
        waiting = [command for command in unfinished if self._needs_budget(run, command)]
        others = [command for command in unfinished if command not in waiting]
        left = await gathered([partial(self._step, run, command) for command in others], self.at_once)
        unclear = [command for command in left if command is not None]
        if not (waiting or unclear):
            return
        fleet = await self.registry.running()
        full = await self._not_granted(run, waiting, fleet) if waiting else {}
        await gathered([partial(self._step, run, command, full.get(command.id)) for command in waiting], self.at_once)
        for command in unclear:
            await self._judge(run, command, fleet)

    def _needs_budget(self, run: Run, command: Command) -> bool:
        """Whether the command is a scale up that was never sent, and the fleet has a budget."""
        is_up = command.kind is CommandKind.SCALE_UP and bool(self.policy.budget.limits)
        return is_up and self._next(run, command) is FollowUp.SEND

    async def _not_granted(self, run: Run, waiting: Sequence[Command], fleet: Fleet) -> Mapping[UUID, Grant]:
        """Of the scales up that wait, those that the fleet's budget, perhaps smaller by now, does not grant in full."""
        async with run.read() as connection:
            if fleet.unreadable or not fleet.complete:
                fleet = fleet.with_last_known((await scaling_states.load(connection)).values())
            since = run.now - self.policy.recent
            lasting = await ledger.ended(connection, fleet.ids, since)  # planned long before
            last = lasting | await ledger.latest(connection, since, run.now)
        asked = self.policy.unshown(fleet, last.values(), run.now)
        most = self.policy.scaling_rule.max_replicas
        return await computed(not_granted, self.policy.budget, fleet, asked, waiting, most)

    def _next(self, run: Run, command: Command) -> FollowUp:
        return follow_up(command, run.now, in_flight=self.in_flight, timeout=self.policy.saga_timeout)

    async def _step(self, run: Run, command: Command, full: Grant | None = None) -> Command | None:
        """Take a command one step further; returns it if only the registry can tell how it ended."""
        with run.isolated(model=command.model_name, model_id=command.model_id, command=command.id):
            if await run.braked():
                return None
            next_ = self._next(run, command)
            match next_:
                case FollowUp.SEND:
                    await self._send(run, command, full)
                case FollowUp.DROP:
                    await self._drop(run, command, "never sent")
                case FollowUp.ASK_SAGA:
                    return command if await self._is_forgotten(run, command) else None
                case FollowUp.ASK_REGISTRY:
                    return command
                case FollowUp.WAIT:
                    pass
                case _:
                    assert_never(next_)
        return None

    async def _is_forgotten(self, run: Run, command: Command) -> bool:
        """Settle the command by its saga if that has ended; true if the dispatcher has forgotten it for too long."""
        assert command.saga_id is not None
        try:
            saga = await self.dispatcher.saga(command.saga_id)
        except NotFound as error:
            logger.bind(event="saga_forgotten", saga=str(command.saga_id)).info("{}", error)
            return command.older_than(self.policy.saga_timeout, run.now)
        except ServiceError as error:
            await self._watch_age(run, command, f"saga {command.saga_id} cannot be asked: {error}")
            raise
        if saga.end is SagaEnd.UNKNOWN:
            self.telemetry.goes_on("saga_status_unknown", f"saga {saga.id} is {saga.status!r}")
        if saga.end in ENDS:
            # One that seems to have lasted longer has ended while nobody asked.
            followed = not command.older_than(self.policy.saga_timeout, run.now)
            await self._settle(run, command, ENDS[saga.end], f"saga {saga.status}", followed=followed)
        else:
            await self._watch_age(run, command, f"saga {saga.id} is still {saga.status}")
        return False

    async def _judge(self, run: Run, command: Command, fleet: Fleet) -> None:
        """Settle by the registry a command whose answer is lost, or whose saga the dispatcher has forgotten."""
        with run.isolated(model=command.model_name, model_id=command.model_id, command=command.id):
            if await run.braked():
                return
            match effect_of(command, fleet):
                case Effect.SHOWN:
                    await self._settle(run, command, CommandState.COMPLETED, "the registry shows its effect")
                case Effect.UNKNOWN:
                    await self._watch_age(run, command, "the registry does not show whether it took effect")
                case Effect.ABSENT if command.older_than(self.policy.saga_timeout, run.now):
                    # By now a saga we never heard of would have ended too, so another command is no second one.
                    forgotten = "the dispatcher has forgotten the saga"
                    why = "no answer" if command.saga_id is None else forgotten
                    await self._settle(run, command, CommandState.FAILED, f"{why}, and no effect in the registry")

    async def _send(self, run: Run, command: Command, full: Grant | None) -> None:
        """Send what another run planned, perhaps under other rules, if the rules in force now allow it."""
        why = self.policy.forbids(command)
        if why is None and full is not None:
            why = f"{whose(full)} {full.most} replicas are taken: {full.replicas} of {command.replicas} are granted"
        if why is None:
            await self.commands.send(run, command)
        else:
            await self._drop(run, command, f"never sent: {why}", forbidden=True)

    async def _drop(self, run: Run, command: Command, why: str, *, forbidden: bool = False) -> None:
        """Its sender was paused, or died, and it is not sent any more: nothing failed that a person must look at."""
        async with run.write() as connection:
            state = CommandState.FAILED
            dropped = await settlement.settle(connection, command, state, run.now, why, forbidden=forbidden)
        if dropped:
            logger.bind(event="command_dropped", kind=str(command.kind)).warning(
                "{} of {} was {}", command.kind, command.model_name, why
            )

    async def _settle(
        self, run: Run, command: Command, state: CommandState, why: str, *, followed: bool = False
    ) -> None:
        async with run.write() as connection:
            if not await settlement.settle(connection, command, state, run.now, why, followed=followed):
                return
        logger.bind(event="command_ended", kind=str(command.kind), state=state).info(
            "{} of {} {}: {}", command.kind, command.model_name, state, why
        )
        if state is CommandState.FAILED:
            self.telemetry.critical("command_failed", why, kind=command.kind)

    async def _watch_age(self, run: Run, command: Command, why: str) -> None:
        """Mark the command as stuck once it is too old: then a person must look at it."""
        if command.older_than(self.policy.saga_timeout, run.now):
            async with run.write() as connection:
                newly = await settlement.mark_stuck(connection, command, why)
            if newly:
                self.telemetry.critical("saga_stuck", why, kind=command.kind)
