"""Readings of the call counters, and what is known from them. Unknown is not zero: it has its own type.

A counter only grows while its process lives, so two good readings of one process with equal values prove that nobody
called in between, even if readings between them failed. A restart breaks the proof: the time since the last good
reading of that process is a `Gap`, unknown for every model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class Unknown(StrEnum):
    """Why a target's reading cannot be used."""

    UNAVAILABLE = "metrics_unavailable"
    BROKEN = "metrics_broken"
    FAMILY_MISSING = "metrics_family_missing"
    NAMES_MISMATCH = "metrics_names_mismatch"
    FLEET_SILENT = "metrics_fleet_silent"
    SERIES_UNREADABLE = "metrics_series_unreadable"


@dataclass(frozen=True, slots=True)
class Page:
    """A good answer of one Entrypoint process: series -> counter, series -> model name; started_at in Unix seconds."""

    target: str
    read_at: datetime
    counters: Mapping[str, float]
    names: Mapping[str, str]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """No usable answer from one target."""

    target: str
    reason: Unknown
    detail: str


Scrape = Page | Unread


@dataclass(frozen=True, slots=True)
class TargetMemory:
    """The last good reading of one target, and the calls per second the whole target then carried.

    `silent` marks a tick in which the whole fleet fell silent at once.
    """

    target: str
    first_read_at: datetime
    read_at: datetime
    started_at: float | None
    rate: float
    counters: Mapping[str, float]
    names: Mapping[str, str]
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which one target may have counted calls that nobody will ever see."""

    target: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """Calls counted in the `seconds` before `until`; time without a sample had no calls."""

    until: datetime
    seconds: float
    calls: float


@dataclass(frozen=True, slots=True)
class Usage:
    """When a model name was last called, at the latest, and its recent calls."""

    last_used_at: datetime
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is remembered of the readings; persisted, so that a restart of ours is no gap."""

    targets: Mapping[str, TargetMemory] = field(default_factory=dict)
    usage: Mapping[str, Usage] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()

    @property
    def measured_since(self) -> datetime | None:
        """Since when every target of this memory has been read; None before the first reading."""
        return max((target.first_read_at for target in self.targets.values()), default=None)

    @property
    def read_at(self) -> datetime | None:
        """When the latest of its readings was taken."""
        return max((target.read_at for target in self.targets.values()), default=None)


@dataclass(frozen=True, slots=True)
class Observation:
    """One tick's readings folded in: the new memory, and how far it can be trusted."""

    at: datetime
    memory: Memory
    complete: bool
    restarted: bool
    unknown_names: frozenset[str]
    problems: tuple[tuple[Unknown, str], ...]

    def known(self, name: str) -> bool:
        """True if use and load of this model name are proven up to this tick."""
        return self.complete and name not in self.unknown_names

    def rate(self, name: str, window: timedelta) -> float:
        """Calls per second of one model name, averaged over the window before this tick."""
        used = self.memory.usage.get(name)
        if used is None or not used.samples:
            return 0.0
        first = min((target.first_read_at for target in self.memory.targets.values()), default=self.at)
        span = min(window, self.at - first).total_seconds()
        return mean_rate(used.samples, self.at, span)


def mean_rate(samples: Iterable[Sample], at: datetime, span: float) -> float:
    """Calls per second over the `span` seconds before `at`; a sample reaching further back counts in proportion."""
    if span <= 0:
        return 0.0
    calls = 0.0
    for sample in samples:
        age = (at - sample.until).total_seconds()
        inside = min(span, age + sample.seconds) - age
        if inside > 0:
            calls += sample.calls * inside / sample.seconds
    return calls / span


def unknown_time(gaps: Iterable[Gap], since: datetime, until: datetime) -> timedelta:
    """How much of the time between the two instants lies in a gap of any target."""
    total = timedelta()
    edge = since
    for start, end in sorted((gap.since, gap.until) for gap in gaps):
        start, end = max(start, edge), min(end, until)
        if end > start:
            total += end - start
            edge = end
    return total
