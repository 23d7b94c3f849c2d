"""rps_check: read the counters, remember what they show, and scale what needs it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from loguru import logger

from limiter.clients.booking import Booking
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.errors import ServiceError
from limiter.clients.registry import Registry
from limiter.computing import computed
from limiter.db import decisions, ledger, readings, saga_times, scaling_states
from limiter.domain.active_bookings import booked_now
from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command, CommandKind, new_command
from limiter.domain.deciding import FleetDecisions, decide_fleet
from limiter.domain.decision import Reason
from limiter.domain.fleet import Fleet, ScalingState, last_known_fleet
from limiter.domain.folding import fold
from limiter.domain.policy import Policy
from limiter.domain.renaming import with_former_use
from limiter.domain.settled import Settled
from limiter.domain.usage import Memory, Observation, Scrape
from limiter.effects.audit import log_decisions
from limiter.effects.commands import Commands
from limiter.effects.memory import Remembered, WarmMemory
from limiter.recording.recorder import Recorder
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

FREED_AT_ONCE = 500  # decisions: half a millisecond


@dataclass(frozen=True)
class _Remembered:
    """What Postgres knew before this tick."""

    memory: Memory
    scaling_states: Mapping[UUID, ScalingState]
    settled: Settled | None
    latest: Mapping[UUID, Command]
    saga_seconds: Mapping[str, float]


@dataclass(frozen=True)
class RpsCheck:
    """The only job that writes readings; without the registry's list it still remembers the calls."""

    registry: Registry
    booking: Booking
    entrypoint: Entrypoint
    commands: Commands
    policy: Policy
    telemetry: Telemetry
    recorder: Recorder
    warm: WarmMemory

    async def __call__(self, run: Run) -> None:
        scrapes, fleet = await asyncio.gather(self.entrypoint.scrape(), self._fleet())
        before = await self._remembered(run)
        # In a thread, as all work that grows with the platform: the loop must go on answering and beating meanwhile.
        running, observation = await computed(self._observed, run, before, scrapes, fleet)
        self.telemetry.reading_problems(observation.problems)
        if not isinstance(fleet, Fleet):
            changed = await computed(readings.changed, before.memory, observation.memory)
            async with run.write() as connection:
                await readings.save(connection, changed)
            self.warm.written(run, Remembered(observation.memory, before.scaling_states, before.settled))
            self.telemetry.targets_restarted(observation.restarts)
            self._record(run, before, scrapes, None, [])
            raise fleet
        booked = frozenset[UUID]()
        made = await computed(self._decided, run, running, before, observation, booked)
        if made.short and (booked := await self._booked(run, running)):
            made = await computed(self._decided, run, running, before, observation, booked)
        while lasting := await self._lasting(run, before, made):
            before = replace(before, latest={**before.latest, **lasting})
            made = await computed(self._decided, run, running, before, observation, booked)
        await computed(self._count, made)
        commands, records = await self._save(run, running, before, observation, made)
        self.telemetry.targets_restarted(observation.restarts)
        self._record(run, before, scrapes, fleet, records, booked)
        await computed(log_decisions, records, dry_run=self.policy.dry_run)
        await self.commands.send_all(run, commands)
        await computed(_free, records)

    def _decided(
        self, run: Run, fleet: Fleet, before: _Remembered, observation: Observation, booked: frozenset[UUID]
    ) -> FleetDecisions:
        prior = (before.scaling_states, before.latest)
        sagas, left = before.saga_seconds, before.settled
        return decide_fleet(
            self.policy, fleet, observation, *prior, run.now, saga_seconds=sagas, booked=booked, before=left
        )

    async def _lasting(self, run: Run, before: _Remembered, made: FleetDecisions) -> Mapping[UUID, Command]:
        """The last commands that what is to be sent now rests on, planned long before, but ended lately."""
        unasked = made.rests_on - before.latest.keys()
        if not unasked:
            return {}
        async with run.read() as connection:
            return await ledger.ended(connection, unasked, run.now - self.policy.recent)

    async def _fleet(self) -> Fleet | ServiceError:
        try:
            return await self.registry.running()
        except ServiceError as error:
            return error

    def _observed(
        self, run: Run, before: _Remembered, scrapes: Sequence[Scrape], fleet: Fleet | ServiceError
    ) -> tuple[Fleet, Observation]:
        """The fleet, as last known where it cannot be read, and the readings folded into what is remembered."""
        states = before.scaling_states.values()
        running = fleet.with_last_known(states) if isinstance(fleet, Fleet) else last_known_fleet(states)
        observation = fold(before.memory, scrapes, running.replicas_by_name.keys(), run.now, self.policy.window)
        return running, with_former_use(observation, running, before.scaling_states, before.settled)

    async def _booked(self, run: Run, fleet: Fleet) -> frozenset[UUID]:
        """Of which models a slot runs now; if that cannot be read, it gives none precedence."""
        try:
            return booked_now(fleet, await self.booking.bookings(run.now), run.now)
        except ServiceError as error:
            logger.bind(event="bookings_unread").warning("the budget is shared without the bookings: {}", error)
            return frozenset()

    async def _remembered(self, run: Run) -> _Remembered:
        async with run.read() as connection:
            last = await self.warm.load(run, connection, self.entrypoint.targets)
            return _Remembered(
                memory=last.memory,
                scaling_states=last.scaling_states,
                settled=last.settled,
                latest=await ledger.latest(connection, run.now - self.policy.recent, run.now),
                saga_seconds=await saga_times.usual(connection, CommandKind.SCALE_UP),
            )

    async def _save(
        self, run: Run, fleet: Fleet, before: _Remembered, observation: Observation, made: FleetDecisions
    ) -> tuple[list[Command], list[DecisionRecord]]:
        """Write readings, states, intents and decisions at once; returns the commands to send and what was decided.

        Of what was made nothing is left: before a large fleet it is most of the memory of a run.
        """
        planned, reasons = await computed(self._planned, run, before, made)
        found = await computed(lambda: [one.record for one in made.decided if one.record])
        states = await computed(scaling_states.changed, before.scaling_states, made.scaling_states(), fleet)
        await computed(_free, made.decided)
        changed = await computed(readings.changed, before.memory, observation.memory)
        async with run.write() as connection:
            await readings.save(connection, changed)
            await scaling_states.save(connection, states)
            recorded = await ledger.plan(connection, planned.values(), reasons)
            # Another job's command may have come in between: then nothing is done, and nothing is told as done.
            taken = {command.model_id for id, command in planned.items() if id not in recorded}
            records = [one for one in found if one.model_id not in taken] if taken else found
            await decisions.record(connection, records, dry_run=self.policy.dry_run)
        after = await computed(states.after, before.scaling_states)
        settled = Settled(self.policy, fleet, after, made.unsettled)
        self.warm.written(run, Remembered(observation.memory, after, settled))
        return [planned[id] for id in planned if id in recorded], records

    def _planned(
        self, run: Run, before: _Remembered, made: FleetDecisions
    ) -> tuple[dict[UUID, Command], dict[UUID, Reason]]:
        """The commands that the decisions ask for, and why, by their ids."""
        planned, reasons = {}, {}
        for one in (one for one in made.decided if one.acts):
            last = before.latest.get(one.model.id)
            command = new_command(
                uuid4(), one.model, one.kind, one.verdict.replicas, last, run.now, dry_run=self.policy.dry_run
            )
            planned[command.id], reasons[command.id] = command, one.verdict.reason
        return planned, reasons

    def _count(self, made: FleetDecisions) -> None:
        for (decision, reason), times in made.counts().items():
            self.telemetry.decided(decision, reason, times)

    def _record(
        self,
        run: Run,
        before: _Remembered,
        scrapes: Sequence[Scrape],
        fleet: Fleet | None,
        records: list[DecisionRecord],
        booked: frozenset[UUID] = frozenset(),
    ) -> None:
        remembered = (before.memory, before.scaling_states)
        self.recorder.tick(run.now, scrapes, fleet, before.latest, records, remembered, before.saga_seconds, booked)


def _free(done: list[Any]) -> None:
    """Free them a few at a time: all at once, of 100,000 new models, would stop the loop for 120 ms."""
    while done:
        del done[-FREED_AT_ONCE:]
