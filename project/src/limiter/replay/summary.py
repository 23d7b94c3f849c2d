"""The result of a replay: what was done and when, replicas over time, and what it cost or freed."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from limiter.config.policy import PolicySettings
from limiter.domain.audit import DecisionRecord
from limiter.domain.decision import Decision
from limiter.domain.fleet import Fleet
from limiter.domain.policy import Policy
from limiter.recording.lines import Began, Line
from limiter.recording.reader import read
from limiter.replay.player import Moment, Player

HOUR = timedelta(hours=1)

RecordKey = tuple[datetime, UUID, UUID | None, str, str, tuple[tuple[str, float | int | str], ...]]


@dataclass
class Summary:
    """One replay, counted."""

    name: str
    found: list[DecisionRecord] = field(default_factory=list)
    replicas: list[tuple[datetime, int]] = field(default_factory=list)  # of the whole fleet, at each change
    replica_hours: float = 0.0
    booked_hours_freed: float = 0.0
    slots_cancelled: int = 0
    ticks: int = 0
    began_at: datetime | None = None
    ended_at: datetime | None = None
    missing: Counter[RecordKey] = field(default_factory=Counter)  # decisions that were recorded, and not come to
    extra: Counter[RecordKey] = field(default_factory=Counter)  # decisions that were come to, and not recorded
    recorded: int = 0
    resettings: list[tuple[datetime, dict[str, Any]]] = field(default_factory=list)  # since when it had which settings

    @property
    def acts(self) -> list[DecisionRecord]:
        """The decisions to do something."""
        return [record for record in self.found if record.decision is not Decision.HOLD]

    def count(self, *decisions: Decision) -> int:
        return sum(record.decision in decisions for record in self.found)

    @property
    def hours(self) -> float:
        """How many hours were simulated."""
        return (self.ended_at - self.began_at) / HOUR if self.began_at and self.ended_at else 0.0

    @property
    def as_recorded(self) -> int:
        """How many of the recorded decisions the replay took too, with the same numbers."""
        return self.recorded - self.missing.total()


def summarize(name: str, policy: Policy, lines: Iterable[Line]) -> Summary:
    """Replay the lines under a policy."""
    player, total = Player(policy), Summary(name)
    last: tuple[datetime, Fleet] | None = None
    for moment in player.play(_noting_settings(total, lines)):
        total.began_at = total.began_at or moment.at
        total.ended_at = max(total.ended_at or moment.at, moment.at)
        _compare(total, moment)
        total.found += moment.found
        if moment.fleet is not None:
            total.ticks += 1
            last = _integrate(total, last, moment.at, moment.fleet)
    total.slots_cancelled = len(player.simulation.cuts)
    total.booked_hours_freed = sum((cut.slot.end - cut.slot.start) / HOUR for cut in player.simulation.cuts)
    return total


def _noting_settings(total: Summary, lines: Iterable[Line]) -> Iterator[Line]:
    """The lines; a process that began with other settings than the last one is noted, with the time of the last run."""
    settings: dict[str, Any] | None = None
    at: datetime | None = None
    for line in lines:
        if isinstance(line, Began):
            if at is not None and line.settings != settings:
                total.resettings.append((at, line.settings))
            settings = line.settings
        else:
            at = line.at
        yield line


def summarize_file(name: str, settings: PolicySettings, file: Path) -> tuple[Summary, float]:
    """Replay a recording under these settings; returns the seconds it took too. Raises WrongRecording."""
    started = time.monotonic()
    return summarize(name, settings.policy(), read(file)), time.monotonic() - started


def _integrate(
    total: Summary, last: tuple[datetime, Fleet] | None, at: datetime, fleet: Fleet
) -> tuple[datetime, Fleet]:
    running = sum(fleet.replicas_by_name.values())
    if last is not None:
        total.replica_hours += sum(last[1].replicas_by_name.values()) * ((at - last[0]) / HOUR)
    if not total.replicas or total.replicas[-1][1] != running:
        total.replicas.append((at, running))
    return at, fleet


def _compare(total: Summary, moment: Moment) -> None:
    """Compare with the decisions that the service recorded, by the numbers that it knew."""
    total.recorded += len(moment.recorded)
    if moment.found or moment.recorded:
        known = {name for record in moment.recorded for name in record.worked_out()}
        found, recorded = (Counter(_key(one, known) for one in some) for some in (moment.found, moment.recorded))
        total.missing += recorded - found
        total.extra += found - recorded


def _key(found: DecisionRecord, known: AbstractSet[str]) -> RecordKey:
    numbers = tuple(sorted((name, value) for name, value in found.worked_out().items() if name in known))
    return (found.at, found.model_id, found.user_id, str(found.decision), str(found.reason), numbers)
