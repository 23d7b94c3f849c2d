"""rps_check: read the counters, remember what they show, and scale what needs it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from loguru import logger

from limiter.clients.entrypoint import Entrypoint
from limiter.clients.http import NeighbourError
from limiter.clients.registry import Registry
from limiter.db import ledger, readings
from limiter.db.runs import Run
from limiter.domain.action import Command, CommandKind, Decision, Reason
from limiter.domain.fleet import Fleet, ServedModel, Sighting
from limiter.domain.folding import fold
from limiter.domain.policy import Policy
from limiter.domain.scaling import Load, ScaleDecision, decide, sighting
from limiter.domain.usage import Memory, Observation
from limiter.jobs.commands import Commands, intend
from limiter.telemetry import Telemetry

KINDS = {Decision.SCALE_UP: CommandKind.SCALE_UP, Decision.SCALE_DOWN: CommandKind.SCALE_DOWN}


@dataclass(frozen=True)
class _Remembered:
    """What Postgres knew before this tick."""

    memory: Memory
    sightings: Mapping[UUID, Sighting]
    latest: Mapping[UUID, Command]


@dataclass(frozen=True)
class RpsCheck:
    """The only job that writes readings; without the registry's list it still remembers what was called."""

    registry: Registry
    entrypoint: Entrypoint
    commands: Commands
    policy: Policy
    telemetry: Telemetry

    async def __call__(self, run: Run) -> None:
        scrapes, fleet = await asyncio.gather(self.entrypoint.scrape(), self._fleet())
        before = await self._remembered(run)
        running = fleet if isinstance(fleet, Fleet) else _last_seen(before.sightings)
        names = running.replicas_by_name.keys()
        seen = fold(before.memory, scrapes, names, run.now, self.policy.window)
        self.telemetry.reading_problems(seen.problems)
        if not isinstance(fleet, Fleet):
            async with run.write() as connection:
                await readings.save(connection, before.memory, seen.memory)
            raise fleet
        decisions = self._decide(run, fleet, before, seen)
        await self._act(run, fleet, before, seen, decisions)

    async def _fleet(self) -> Fleet | NeighbourError:
        try:
            return await self.registry.running()
        except NeighbourError as error:
            return error

    async def _remembered(self, run: Run) -> _Remembered:
        longest = max(self.policy.pauses.backoff_longest, self.policy.pauses.cooldown)
        async with run.read() as connection:
            memory = await readings.load(connection, self.entrypoint.targets)
            sightings = await readings.sightings(connection)
            latest = await ledger.latest(connection, run.now - 2 * longest - self.policy.saga_timeout)
        return _Remembered(memory, sightings, latest)

    def _decide(
        self, run: Run, fleet: Fleet, before: _Remembered, seen: Observation
    ) -> list[tuple[ServedModel, ScaleDecision]]:
        decisions = []
        for model in fleet.models:
            rule = self.policy.scaling(model.name)
            known = sighting(model, before.sightings.get(model.id), run.now)
            load = load_of(model, fleet, seen, rule.up_window, rule.down_window)
            blocked = self.policy.pauses.blocks(before.latest.get(model.id), run.now)
            decisions.append((model, decide(rule, known, load, blocked, run.now)))
        counts = Counter((verdict.decision, verdict.reason) for _, verdict in decisions)
        for (decision, reason), times in counts.items():
            self.telemetry.decided(decision, reason, times)
        return decisions

    async def _act(
        self,
        run: Run,
        fleet: Fleet,
        before: _Remembered,
        seen: Observation,
        decisions: list[tuple[ServedModel, ScaleDecision]],
    ) -> None:
        planned: dict[UUID, Command] = {}
        reasons: dict[UUID, Reason] = {}
        for model, verdict in decisions:
            if verdict.decision in KINDS:
                kind, last = KINDS[verdict.decision], before.latest.get(model.id)
                intent = intend(model, kind, verdict.replicas, last, run.now, dry_run=self.policy.dry_run)
                planned[intent.id], reasons[intent.id] = intent, verdict.reason
                _log(model, verdict, seen)
        async with run.write() as connection:
            await readings.save(connection, before.memory, seen.memory)
            kept = [verdict.sighting for _, verdict in decisions]
            await readings.save_sightings(connection, before.sightings, kept, complete=fleet.complete)
            recorded = await ledger.plan(connection, planned.values(), reasons)
        await self.commands.send_all(run, [planned[id] for id in planned if id in recorded])


def load_of(model: ServedModel, fleet: Fleet, seen: Observation, up: timedelta, down: timedelta) -> Load:
    """The model's share of its name's traffic: calls are spread over all replicas of a name alike."""
    share = model.replicas / (fleet.replicas_by_name[model.name] or 1)
    return Load(
        up=seen.rate(model.name, up) * share,
        down=seen.rate(model.name, down) * share,
        known=seen.known(model.name),
        restarted=seen.restarted,
    )


def _last_seen(sightings: Mapping[UUID, Sighting]) -> Fleet:
    """The models as they were last seen, for the time the registry does not answer."""
    return Fleet(tuple(ServedModel(seen.model_id, seen.name, seen.replicas) for seen in sightings.values()), False)


def _log(model: ServedModel, verdict: ScaleDecision, seen: Observation) -> None:
    rate = seen.rate(model.name, timedelta(minutes=1))
    bound = logger.bind(event="decided", model=model.name, model_id=str(model.id), reason=verdict.reason)
    bound.info("{}: {} -> {} replicas at {:.1f} RPS", verdict.decision, model.replicas, verdict.replicas, rate)
