"""`make day FILE=...`: a synthetic day of a large fleet, recorded as the service does, to try replays and their speed.

MODELS=1000, a reading every 15 s, idle jobs every minute. A tenth of the models is busy in working hours, another
tenth is called now and then, the rest hardly ever: at any time about ten of a hundred are active. The same SEED gives
the same day.
"""

import os
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path
from uuid import UUID

from dev.wording import counted
from limiter.config.policy import PolicySettings
from limiter.domain.command import CommandState
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.job import Job
from limiter.domain.reservations import Bookings, Reservation, Slot, User
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import ScrapedPage
from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.replay.simulation import Simulation

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
TICK, IDLE, SAGA = 15, 60, timedelta(seconds=30)  # seconds between readings, and between runs of the idle jobs
LIMIT = 10**12  # bytes; more than any day needs


class Day:
    """The synthetic platform: counters that grow, bookings, and commands that take effect."""

    def __init__(self, models: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.fleet = Fleet(tuple(ServedModel(UUID(int=n + 1), f"model-{n}", 1) for n in range(models)))
        self.counters = {model.name: 1.0 for model in self.fleet.models}
        self.names = {model.name: model.name for model in self.fleet.models}
        self.peaks = {model.name: self._peak(n) for n, model in enumerate(self.fleet.models)}
        self.bookings = Bookings(tuple(self._booked(n, model) for n, model in enumerate(self.fleet.models)))

    def _peak(self, number: int) -> float:
        """Calls per second at noon."""
        if number % 10 == 0:
            return self.random.uniform(2, 60)
        return self.random.uniform(0.0001, 0.001) if number % 10 == 1 else 0.00002

    def _booked(self, number: int, model: ServedModel) -> Reservation:
        start = BEGIN + timedelta(hours=self.random.randrange(0, 16))
        hours = [start + timedelta(hours=2 * n) for n in range(self.random.randrange(2, 6))]
        id = f"r{number}"
        slots = tuple(Slot(at, at + timedelta(hours=2), f"s{n}", id) for n, at in enumerate(hours))
        return Reservation(
            id, User(UUID(int=10_000 + number % 200), f"user{number % 200}"), model.name, model.id, slots
        )

    def page(self, now: datetime) -> ScrapedPage:
        """The counters, grown by the calls of the last tick."""
        hour = (now - BEGIN) / timedelta(hours=1) % 24
        day = max(0.05, sin(pi * (hour - 6) / 14)) if 6 <= hour <= 20 else 0.05
        for name, peak in self.peaks.items():
            expected = peak * day * TICK
            if expected > 1:
                self.counters[name] += max(0, round(self.random.gauss(expected, expected**0.5)))
            elif self.random.random() < expected:
                self.counters[name] += 1
        return ScrapedPage("http://entrypoint/metrics", now, dict(self.counters), self.names)

    def settle(self, simulation: Simulation, now: datetime) -> None:
        """Complete the commands that are older than `SAGA`, and resize their models."""
        done = {
            id: replace(command, state=CommandState.COMPLETED, finished_at=now)
            for id, command in simulation.commands.items()
            if command.unfinished and now >= command.planned_at + SAGA
        }
        simulation.commands |= done
        if done:
            resized = {id: command.replicas for id, command in done.items() if command.replicas is not None}
            models = (replace(model, replicas=resized.get(model.id, model.replicas)) for model in self.fleet.models)
            self.fleet = Fleet(tuple(models))

    def cancel(self, simulation: Simulation, first: int) -> list[tuple[BookingKey, Slot]]:
        """Remove the slots that the simulation cut from number `first` on; returns them."""
        gone = [(cut.key, cut.slot) for cut in simulation.cuts[first:]]
        if gone:
            slots = {(slot.reservation_id, slot.id) for _, slot in gone}
            left = (
                replace(one, slots=tuple(slot for slot in one.slots if (one.id, slot.id) not in slots))
                for one in self.bookings.reservations
            )
            self.bookings = Bookings(tuple(one for one in left if one.slots))
        return gone


def record(path: Path, models: int, hours: float, seed: int) -> None:
    """Record such a day to the file, decided with the default settings."""
    settings = PolicySettings()
    recorder = Recorder(str(path), LIMIT, settings.model_dump(mode="json"))
    day, simulation = Day(models, seed), Simulation(settings.policy())
    for second in range(0, int(hours * 3600), TICK):
        now = BEGIN + timedelta(seconds=second)
        page, before = day.page(now), (simulation.memory, dict(simulation.scaling_states))
        day.settle(simulation, now)
        commands = dict(simulation.commands)
        recorder.tick(
            now, [page], day.fleet, commands, simulation.tick(now, [page], day.fleet), before, simulation.saga_seconds
        )
        if second % IDLE == 0:
            recorder.idle(Job.IDLE_WARNING, now, _warn(day, simulation, page, now))
            recorder.idle(Job.IDLE_ENFORCE, now, _enforce(day, simulation, page, now))


def _warn(day: Day, simulation: Simulation, page: ScrapedPage, now: datetime) -> RunTrace:
    """One run of idle_warning."""
    snapshot = simulation.snapshot(now, [page], day.fleet, day.bookings)
    return RunTrace(snapshots=((None, snapshot),), acted=tuple(simulation.warn(snapshot)))


def _enforce(day: Day, simulation: Simulation, page: ScrapedPage, now: datetime) -> RunTrace:
    """One run of idle_enforce, in which each fresh snapshot shows the cancellations before it."""
    snapshot, first_cut = simulation.snapshot(now, [page], day.fleet, day.bookings), len(simulation.cuts)
    snapshots: list[tuple[BookingKey | None, Snapshot]] = [(None, snapshot)]
    cancelled: list[tuple[BookingKey, Slot]] = []

    def read_fresh(key: BookingKey) -> Snapshot:
        cancelled.extend(day.cancel(simulation, first_cut + len(cancelled)))
        fresh = simulation.snapshot(now, [page], day.fleet, day.bookings, only=key)
        snapshots.append((key, fresh))
        return fresh

    acted = tuple(simulation.enforce(snapshot, read_fresh, now))
    cancelled.extend(day.cancel(simulation, first_cut + len(cancelled)))
    return RunTrace(tuple(snapshots), acted, cancelled=tuple(cancelled))


def main(arguments: list[str]) -> int:
    """Record a day of MODELS, HOURS and SEED to the file named; returns the exit code."""
    if not arguments or not arguments[0]:
        print("usage: [MODELS=1000] [HOURS=24] [SEED=1] make day FILE=day.jsonl", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    models, hours, seed = (
        os.environ.get(name, usual) for name, usual in (("MODELS", 1000), ("HOURS", 24), ("SEED", 1))
    )
    path.unlink(missing_ok=True)
    record(path, int(models), float(hours), int(seed))
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {counted(int(models), 'model')}, {hours} h")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
