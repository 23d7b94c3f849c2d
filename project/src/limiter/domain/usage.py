"""Readings of the call counters, and what is known from them. Unknown is not zero: it has its own type.

A counter only grows while its process lives, so two good readings of one process with equal values prove that nobody
called in between, even if readings between them failed. A restart breaks the proof: the time since the last good
reading of that process is a `Gap`, unknown for every model. So does a page that only repeats an earlier one, or one of
another process: it proves nothing, and is as good as none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from limiter.domain.rates import Sample, mean_rates


class ScrapeProblem(StrEnum):
    """Why a target's reading cannot be used."""

    UNAVAILABLE = "metrics_unavailable"
    BROKEN = "metrics_broken"
    FAMILY_MISSING = "metrics_family_missing"
    NAMES_MISMATCH = "metrics_names_mismatch"
    FLEET_SILENT = "metrics_fleet_silent"
    SERIES_UNREADABLE = "metrics_series_unreadable"
    STALE = "metrics_stale"  # an old page: it repeats itself to the byte, or says itself that it is old
    BALANCED = "metrics_balanced"  # pages of several processes: the counters jump back and forth


class Heartbeat(StrEnum):
    """The counter of its own by which a page shows that it is new."""

    SCRAPES = "scrapes"  # grows with each reading
    CPU = "cpu"  # grows within seconds


@dataclass(frozen=True, slots=True)
class ScrapedPage:
    """A good answer of one Entrypoint process: series -> counter, series -> model name; started_at in Unix seconds.

    `busy` are the names with requests in flight; `digest` tells pages apart that differ in a byte; `read_as` tells
    apart the settings that say which series count; `lacks_in_flight` says that the gauge asked for is not on the page.
    """

    target: str
    read_at: datetime
    counters: Mapping[str, float]
    names: Mapping[str, str]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    started_at: float | None = None
    busy: frozenset[str] = frozenset()
    digest: int | None = None
    heartbeat: Heartbeat | None = None
    read_as: str | None = None
    lacks_in_flight: bool = False


@dataclass(frozen=True, slots=True)
class FailedScrape:
    """No usable answer from one target."""

    target: str
    reason: ScrapeProblem
    detail: str


Scrape = ScrapedPage | FailedScrape


@dataclass(frozen=True, slots=True)
class TargetMemory:
    """The last good reading of one target, and the calls per second the whole target then carried.

    `silent` marks a tick in which the whole fleet fell silent at once, `stale` one that got that reading's page again.
    `matched_at` is when a running model's name was last among its series; `read_as` is the page's, None if not known.
    """

    target: str
    first_read_at: datetime
    read_at: datetime
    started_at: float | None
    rate: float
    counters: Mapping[str, float]
    names: Mapping[str, str]
    silent: bool = False
    matched_at: datetime | None = None
    page_digest: int | None = None
    stale: bool = False
    read_as: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which one target may have counted calls that nobody will ever know of."""

    target: str
    since: datetime
    until: datetime


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


@dataclass(frozen=True)
class Observation:
    """One tick's readings folded in: the new memory, and how far it can be trusted."""

    at: datetime
    memory: Memory
    complete: bool
    restarts: tuple[Gap, ...]
    unknown_names: frozenset[str]
    busy: frozenset[str]
    problems: tuple[tuple[ScrapeProblem, str], ...]
    fresh: Mapping[str, Mapping[float, float]] = field(default_factory=dict)  # name -> seconds -> calls in them
    unseen: timedelta = timedelta(0)  # the longest time between a page and the one before it of the same target
    rebased: bool = False  # some target is new beside what was read before, or read as another: it only sets a baseline

    @property
    def restarted(self) -> bool:
        """True if some target restarted since its last good reading, or only sets a baseline."""
        return self.rebased or bool(self.restarts)

    def known(self, name: str) -> bool:
        """True if use and load of this model name are proven up to this tick."""
        return self.complete and name not in self.unknown_names

    def rate(self, name: str, window: timedelta) -> float:
        """Calls per second of one model name, averaged over the window before this tick."""
        return self.rates(name, (min(window, self.measured_for).total_seconds(),))[0]

    def rates(self, name: str, spans: Sequence[float]) -> Sequence[float]:
        """Calls per second of one model name over each of so many seconds before this tick, the fewest first."""
        return mean_rates(self.recent.get(name, ()), self._stamp, spans)

    @cached_property
    def recent(self) -> Mapping[str, tuple[Sample, ...]]:
        """The recent calls of each model name that has any; the rate of every other is zero."""
        return {name: used.samples for name, used in self.memory.usage.items() if used.samples}

    @cached_property
    def _stamp(self) -> float:
        return self.at.timestamp()

    @cached_property
    def measured_for(self) -> timedelta:
        """For how long the target that has been read the longest has been."""
        return self.at - min((target.first_read_at for target in self.memory.targets.values()), default=self.at)
