"""rps_check: read the counters, remember what they show, and scale what needs it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from limiter.clients.entrypoint import Entrypoint
from limiter.clients.http import NeighbourError
from limiter.clients.registry import Registry
from limiter.db import decisions, ledger, readings
from limiter.db.runs import Run
from limiter.domain.action import Command, CommandKind, Decision, intend
from limiter.domain.deciding import Round, decide_fleet
from limiter.domain.fleet import Fleet, ServedModel, Sighting
from limiter.domain.folding import fold
from limiter.domain.policy import Policy
from limiter.domain.usage import Memory, Observation, Scrape
from limiter.jobs.audit import say
from limiter.jobs.commands import Commands
from limiter.recording import Recorder
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
    recorder: Recorder

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
            self.recorder.tick(run.now, scrapes, None, before.latest, [], (before.memory, before.sightings))
            raise fleet
        decided = decide_fleet(self.policy, fleet, seen, before.sightings, before.latest, run.now)
        for (decision, reason), times in decided.counts().items():
            self.telemetry.decided(decision, reason, times)
        await self._act(run, fleet, before, seen, decided, scrapes)

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

    async def _act(
        self,
        run: Run,
        fleet: Fleet,
        before: _Remembered,
        seen: Observation,
        decided: Round,
        scrapes: Sequence[Scrape],
    ) -> None:
        dry, planned, reasons = self.policy.dry_run, {}, {}
        for model, verdict in ((one.model, one.verdict) for one in decided.decided if one.acts):
            kind, last = KINDS[verdict.decision], before.latest.get(model.id)
            intent = intend(uuid4(), model, kind, verdict.replicas, last, run.now, dry_run=dry)
            planned[intent.id], reasons[intent.id] = intent, verdict.reason
        findings = [one.finding for one in decided.decided if one.finding is not None]
        async with run.write() as connection:
            await readings.save(connection, before.memory, seen.memory)
            kept = decided.sightings()
            await readings.save_sightings(connection, before.sightings, kept, complete=fleet.complete)
            recorded = await ledger.plan(connection, planned.values(), reasons)
            await decisions.record(connection, findings, dry_run=dry)
        self.recorder.tick(run.now, scrapes, fleet, before.latest, findings, (before.memory, before.sightings))
        for finding in findings:
            say(finding)
        await self.commands.send_all(run, [planned[id] for id in planned if id in recorded])


def _last_seen(sightings: Mapping[UUID, Sighting]) -> Fleet:
    """The models as they were last seen, for the time the registry does not answer."""
    return Fleet(tuple(ServedModel(seen.model_id, seen.name, seen.replicas) for seen in sightings.values()), False)
