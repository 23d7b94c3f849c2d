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
from limiter.domain.action import Command, intend
from limiter.domain.deciding import Round, decide_fleet
from limiter.domain.fleet import Fleet, Sighting, last_seen
from limiter.domain.folding import fold
from limiter.domain.policy import Policy
from limiter.domain.usage import Memory, Observation, Scrape
from limiter.jobs.audit import say
from limiter.jobs.commands import Commands
from limiter.recording import Recorder
from limiter.telemetry import Telemetry


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
        running = fleet if isinstance(fleet, Fleet) else last_seen(before.sightings.values())
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
        for one in (one for one in decided.decided if one.acts):
            last = before.latest.get(one.model.id)
            intent = intend(uuid4(), one.model, one.kind, one.verdict.replicas, last, run.now, dry_run=dry)
            planned[intent.id], reasons[intent.id] = intent, one.verdict.reason
        async with run.write() as connection:
            await readings.save(connection, before.memory, seen.memory)
            kept = decided.sightings()
            await readings.save_sightings(connection, before.sightings, kept, complete=fleet.complete)
            recorded = await ledger.plan(connection, planned.values(), reasons)
            # Another job's command may have come in between: then nothing is done, and nothing is told as done.
            taken = {command.model_id for id, command in planned.items() if id not in recorded}
            findings = [one.finding for one in decided.decided if one.finding and one.model.id not in taken]
            await decisions.record(connection, findings, dry_run=dry)
        self.recorder.tick(run.now, scrapes, fleet, before.latest, findings, (before.memory, before.sightings))
        for finding in findings:
            say(finding)
        await self.commands.send_all(run, [planned[id] for id in planned if id in recorded])
