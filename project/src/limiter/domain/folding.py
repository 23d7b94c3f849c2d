"""Folding a reading of every target into what was remembered of the readings before."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from limiter.domain.usage import (
    FailedScrape,
    Gap,
    Memory,
    Observation,
    Sample,
    Scrape,
    ScrapedPage,
    ScrapeProblem,
    TargetMemory,
    Usage,
)

SNAPSHOT_EXPECTS_CALLS = 10.0  # of a Poisson stream of calls, one snapshot in 20,000 misses as many by chance
SAMPLES_PER_WINDOW = 60  # shorter ticks are merged, so that a model's row stays small however fast the ticks are


@dataclass(frozen=True, slots=True)
class _Growth:
    """What one page adds to the memory of its target."""

    memory: TargetMemory
    calls: Mapping[str, float]
    seconds: float
    gap: Gap | None


def fold(
    memory: Memory,
    scrapes: Sequence[Scrape],
    names: AbstractSet[str],
    at: datetime,
    window: timedelta,
    *,
    between_ticks: bool = False,
) -> Observation:
    """Fold one reading of every target, taken at `at`, into the memory; `names` are the running models' names.

    A reading `between_ticks` is one whose memory is thrown away.
    """
    pages = [scrape for scrape in scrapes if isinstance(scrape, ScrapedPage)]
    problems = [
        (scrape.reason, f"{scrape.target}: {scrape.detail}") for scrape in scrapes if isinstance(scrape, FailedScrape)
    ]
    growths = [_grow(memory.targets.get(page.target), page, at) for page in pages]
    unreadable = frozenset(name for page in pages for name in page.unreadable.values())
    problems += [(ScrapeProblem.SERIES_UNREADABLE, name) for name in sorted(unreadable)]
    complete = len(pages) == len(scrapes) and bool(pages)
    silent = complete and (_snapshot_silenced(memory, growths) if between_ticks else _tick_silenced(memory, growths))
    if silent:
        complete = False
        growths = [replace(growth, memory=replace(growth.memory, silent=True)) for growth in growths]
        problems.append((ScrapeProblem.FLEET_SILENT, "every target fell silent at once"))
    absent = _absent(pages, names)
    if absent and pages and absent == names:
        if len(pages) == len(scrapes):
            problems.append((ScrapeProblem.NAMES_MISMATCH, f"no series matches any of {len(names)} running models"))
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


def _grow(before: TargetMemory | None, page: ScrapedPage, at: datetime) -> _Growth:
    """Calls counted between two good readings of one target; a target never read before only sets the baseline."""
    if before is None:
        return _Growth(_target(page, at, at, 0.0, page.counters), {}, 0.0, None)
    anew = _started_anew(before, page)
    fell = not before.counters.keys() <= page.counters.keys() | page.unreadable.keys()
    old: Mapping[str, float] = {} if anew else before.counters
    calls: dict[str, float] = {}
    total = 0.0
    for series, value in page.counters.items():
        known = old.get(series, 0.0)
        if value == known:
            continue
        fell = fell or value < known
        grown = value - known if value > known else value
        if grown > 0:
            name = page.names[series]
            calls[name] = calls.get(name, 0.0) + grown
            total += grown
    # Some series fell or vanished: the process restarted, whatever it says.
    gap = Gap(page.target, before.read_at, at) if anew or fell else None
    seconds = (at - before.read_at).total_seconds()
    rate = total / seconds if seconds > 0 else before.rate
    # An unreadable series keeps its old value: when it can be read again, the growth since then still shows.
    kept = {series: old[series] for series in page.unreadable if series in old}
    return _Growth(_target(page, before.first_read_at, at, rate, {**page.counters, **kept}), calls, seconds, gap)


def _target(
    page: ScrapedPage, first: datetime, at: datetime, rate: float, counters: Mapping[str, float]
) -> TargetMemory:
    return TargetMemory(page.target, first, at, page.started_at, rate, counters, {**page.unreadable, **page.names})


def _started_anew(before: TargetMemory, page: ScrapedPage) -> bool:
    """True if the process says that it has started anew."""
    return page.started_at is not None and before.started_at is not None and page.started_at != before.started_at


def _tick_silenced(memory: Memory, growths: Iterable[_Growth]) -> bool:
    """True if the last tick saw calls, and this one sees none anywhere."""
    return not _alive(growths) and _expected(memory, growths) > 0


def _snapshot_silenced(memory: Memory, growths: Iterable[_Growth]) -> bool:
    """True if the last tick was silenced and no target has counted calls since, or far too many calls are missing.

    A snapshot comes at any time after a tick, often so soon that no call was due: its own silence alone says nothing.
    """
    inherited = any(target.silent for target in memory.targets.values())
    return not _alive(growths) and (inherited or _expected(memory, growths) >= SNAPSHOT_EXPECTS_CALLS)


def _alive(growths: Iterable[_Growth]) -> bool:
    """True if some target counted calls, or restarted, which explains why it did not."""
    return any(growth.calls or growth.gap for growth in growths)


def _expected(memory: Memory, growths: Iterable[_Growth]) -> float:
    """Calls that would have come at the last tick's rate."""
    known = ((memory.targets.get(growth.memory.target), growth.seconds) for growth in growths)
    return sum(before.rate * seconds for before, seconds in known if before is not None)


def _absent(pages: Iterable[ScrapedPage], names: AbstractSet[str]) -> frozenset[str]:
    present = {name for page in pages for name in page.names.values()}
    return frozenset(names - present)


def _remember(
    memory: Memory,
    growths: Sequence[_Growth],
    expected: Sequence[str],
    pages: Sequence[ScrapedPage],
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
    now, fresh = at.timestamp(), dict[str, dict[float, float]]()
    for growth in growths:
        for name, calls in growth.calls.items():
            by_span = fresh.setdefault(name, {})
            by_span[growth.seconds] = by_span.get(growth.seconds, 0.0) + calls
    oldest = (at - window).timestamp()
    merged = dict(usage)
    for name in [name for name, used in usage.items() if used.samples and used.samples[0].until <= oldest]:
        samples = usage[name].samples
        kept = next((at for at, sample in enumerate(samples) if sample.until > oldest), len(samples))
        merged[name] = Usage(usage[name].last_used_at, samples[kept:])
    for name, by_span in fresh.items():
        before = merged.get(name)
        samples = before.samples if before else ()
        for seconds, calls in by_span.items():
            samples = _append(samples, Sample(now, seconds, calls), window.total_seconds() / SAMPLES_PER_WINDOW)
        merged[name] = Usage(max(used_at, before.last_used_at) if before else used_at, samples)
    return merged


def _append(samples: tuple[Sample, ...], new: Sample, resolution: float) -> tuple[Sample, ...]:
    if new.seconds <= 0:
        return samples
    if samples:
        last = samples[-1]
        joined = new.until - last.until + last.seconds
        if last.until < new.until and new.seconds <= joined <= resolution:
            return (*samples[:-1], Sample(new.until, joined, last.calls + new.calls))
    return (*samples, new)
