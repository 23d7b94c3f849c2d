"""Readings of the call counters, folded into use and load. Unknown is not zero: it has its own type.

A counter only grows while its process lives, so two good readings of one process with equal values prove that nobody
called in between, even if readings between them failed. A restart breaks the proof: the time since the last good
reading of that process is a `Gap`, unknown for every model.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

SILENCE_EXPECTS_CALLS = 0.5  # fewer expected calls than this, and a silent tick proves nothing either way
SAMPLES_PER_WINDOW = 60  # shorter ticks are merged, so that a model's row stays small however fast the ticks are


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
    """The last good reading of one target, and the calls per second the whole target then carried."""

    target: str
    first_read_at: datetime
    read_at: datetime
    started_at: float | None
    rate: float
    counters: Mapping[str, float]
    names: Mapping[str, str]


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
        first = min(target.first_read_at for target in self.memory.targets.values())
        span = min(window, self.at - first).total_seconds()
        return mean_rate(used.samples, self.at, span)


@dataclass(frozen=True, slots=True)
class _Growth:
    """What one page adds to the memory of its target."""

    memory: TargetMemory
    calls: Mapping[str, float]
    seconds: float
    gap: Gap | None


def fold(
    memory: Memory, scrapes: Sequence[Scrape], names: AbstractSet[str], at: datetime, window: timedelta
) -> Observation:
    """Fold one reading of every target, taken at `at`, into the memory; `names` are the running models' names."""
    pages = [scrape for scrape in scrapes if isinstance(scrape, Page)]
    problems = [
        (scrape.reason, f"{scrape.target}: {scrape.detail}") for scrape in scrapes if isinstance(scrape, Unread)
    ]
    growths = [_grow(memory.targets.get(page.target), page, at) for page in pages]
    unreadable = frozenset(name for page in pages for name in page.unreadable.values())
    problems += [(Unknown.SERIES_UNREADABLE, name) for name in sorted(unreadable)]
    complete = len(pages) == len(scrapes) and bool(pages)
    if complete and _silenced(memory, growths):
        complete = False
        problems.append((Unknown.FLEET_SILENT, "every target fell silent at once"))
    absent = _absent(pages, names)
    if absent and pages and absent == names:
        problems.append((Unknown.NAMES_MISMATCH, f"no series matches any of {len(names)} running models"))
    else:
        absent = frozenset()
    return Observation(
        at=at,
        memory=_remember(memory, growths, [scrape.target for scrape in scrapes], pages, at, window),
        complete=complete,
        restarted=any(growth.gap for growth in growths),
        unknown_names=absent | unreadable,
        problems=tuple(problems),
    )


def _grow(before: TargetMemory | None, page: Page, at: datetime) -> _Growth:
    """Calls counted between two good readings of one target; a target never seen before only sets the baseline."""
    if before is None:
        return _Growth(_target(page, at, at, 0.0, page.counters), {}, 0.0, None)
    gap = _gap(before, page, at)
    old: Mapping[str, float] = {} if gap else before.counters
    calls: dict[str, float] = {}
    total = 0.0
    for series, value in page.counters.items():
        grown = value - old.get(series, 0.0)
        if grown > 0:
            name = page.names[series]
            calls[name] = calls.get(name, 0.0) + grown
            total += grown
    seconds = (at - before.read_at).total_seconds()
    rate = total / seconds if seconds > 0 else before.rate
    # An unreadable series keeps its old value: when it can be read again, the growth since then still shows.
    kept = {series: old[series] for series in page.unreadable if series in old}
    return _Growth(_target(page, before.first_read_at, at, rate, {**page.counters, **kept}), calls, seconds, gap)


def _target(page: Page, first: datetime, at: datetime, rate: float, counters: Mapping[str, float]) -> TargetMemory:
    return TargetMemory(page.target, first, at, page.started_at, rate, counters, {**page.unreadable, **page.names})


def _gap(before: TargetMemory, page: Page, at: datetime) -> Gap | None:
    """The time lost to a restart: some series dropped or vanished, or the process says it started anew."""
    anew = page.started_at is not None and before.started_at is not None and page.started_at != before.started_at
    if not anew and not _dropped(before.counters, page):
        return None
    until = at
    if anew and page.started_at is not None:
        until = min(at, max(before.read_at, datetime.fromtimestamp(page.started_at, at.tzinfo)))
    return Gap(page.target, before.read_at, until)


def _dropped(old: Mapping[str, float], page: Page) -> bool:
    counters = page.counters
    return any(counters.get(series, -1.0) < value and series not in page.unreadable for series, value in old.items())


def _silenced(memory: Memory, growths: Iterable[_Growth]) -> bool:
    """True if calls were to be expected by the last tick's rate, and not one came anywhere."""
    expected = 0.0
    for growth in growths:
        before = memory.targets.get(growth.memory.target)
        if growth.calls or growth.gap:
            return False
        expected += before.rate * growth.seconds if before else 0.0
    return expected >= SILENCE_EXPECTS_CALLS


def _absent(pages: Iterable[Page], names: AbstractSet[str]) -> frozenset[str]:
    seen = {name for page in pages for name in page.names.values()}
    return frozenset(names - seen)


def _remember(
    memory: Memory,
    growths: Sequence[_Growth],
    expected: Sequence[str],
    pages: Sequence[Page],
    at: datetime,
    window: timedelta,
) -> Memory:
    targets = {target: memory.targets[target] for target in expected if target in memory.targets}
    targets.update({growth.memory.target: growth.memory for growth in growths})
    gaps = memory.gaps + tuple(growth.gap for growth in growths if growth.gap)
    read_at = max([page.read_at for page in pages], default=at)
    return Memory(targets, _used(memory.usage, growths, at, max(at, read_at), window), gaps)


def _used(
    usage: Mapping[str, Usage], growths: Iterable[_Growth], at: datetime, used_at: datetime, window: timedelta
) -> Mapping[str, Usage]:
    """Usage with the new calls; the last use is the latest moment a call can have happened: when the page was read."""
    fresh: dict[str, dict[float, float]] = {}
    for growth in growths:
        for name, calls in growth.calls.items():
            by_span = fresh.setdefault(name, {})
            by_span[growth.seconds] = by_span.get(growth.seconds, 0.0) + calls
    oldest = at - window
    merged = {
        name: (
            replace(used, samples=tuple(s for s in used.samples if s.until > oldest))
            if used.samples and used.samples[0].until <= oldest
            else used
        )
        for name, used in usage.items()
    }
    for name, by_span in fresh.items():
        before = merged.get(name)
        samples = before.samples if before else ()
        for seconds, calls in by_span.items():
            samples = _append(samples, Sample(at, seconds, calls), window.total_seconds() / SAMPLES_PER_WINDOW)
        merged[name] = Usage(max(used_at, before.last_used_at) if before else used_at, samples)
    return merged


def _append(samples: tuple[Sample, ...], new: Sample, resolution: float) -> tuple[Sample, ...]:
    if new.seconds <= 0:
        return samples
    if samples:
        last = samples[-1]
        joined = (new.until - last.until).total_seconds() + last.seconds
        if last.until < new.until and joined <= resolution:
            return (*samples[:-1], Sample(new.until, joined, last.calls + new.calls))
    return (*samples, new)


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
