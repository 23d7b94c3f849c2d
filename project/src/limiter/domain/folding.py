"""Folding a reading of every target into what was remembered of the readings before."""

import math
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta

from limiter.domain.growth import CLOCKS_APART, Growth, grow
from limiter.domain.rates import Sample
from limiter.domain.usage import (
    FailedScrape,
    Memory,
    Observation,
    Scrape,
    ScrapeProblem,
    TargetMemory,
    Usage,
)

SNAPSHOT_EXPECTS_CALLS = 10.0  # of a Poisson stream of calls, one snapshot in 20,000 misses as many by chance
TICK_EXPECTS_CALLS = 3.0  # fewer, as of a probe that calls a quiet fleet once a minute, are often none at all
ALIKE = 1.05  # spans that differ by less than a twentieth are counted as one, or each page would add samples of its own
SAMPLES_PER_WINDOW = 60  # shorter ticks are merged, so that a model's row stays small however fast the ticks are


def fold(
    memory: Memory,
    scrapes: Sequence[Scrape],
    names: AbstractSet[str],
    at: datetime,
    window: timedelta,
    *,
    between_ticks: bool = False,
) -> Observation:
    """Fold one reading of every target, begun at `at`, into the memory; `names` are the running models' names.

    It is of the moment at which the last page was read. A reading `between_ticks` is one whose memory is thrown away.
    """
    growths, failed = _grown(memory, scrapes, names, window, between_ticks)
    at = max([at, *(growth.page.read_at for growth in growths)])
    problems = [(scrape.reason, f"{scrape.target}: {scrape.detail}") for scrape in failed]
    unreadable = frozenset(name for growth in growths for name in growth.page.unreadable.values())
    problems += [(ScrapeProblem.SERIES_UNREADABLE, name) for name in sorted(unreadable)]
    complete = bool(growths) and not failed
    silent = complete and (_snapshot_silenced(memory, growths) if between_ticks else _tick_silenced(memory, growths))
    if silent:
        growths = [replace(growth, memory=replace(growth.memory, silent=True)) for growth in growths]
        problems.append((ScrapeProblem.FLEET_SILENT, "every target fell silent at once"))
    mismatched = _mismatched(memory, growths, names)
    if mismatched and complete:
        problems.append((ScrapeProblem.NAMES_MISMATCH, f"no series matches any of {len(names)} running models"))
    busy = frozenset(name for growth in growths for name in growth.page.busy)
    fresh = _fresh(growths, busy)
    return Observation(
        at=at,
        memory=_remember(memory, growths, [scrape.target for scrape in scrapes], failed, fresh, at, window),
        complete=complete and not silent,
        restarts=tuple(growth.gap for growth in growths if growth.gap),
        unknown_names=(frozenset(names) if mismatched else frozenset()) | unreadable,
        busy=busy,
        problems=tuple(problems),
        fresh=fresh,
        unseen=timedelta(seconds=max((growth.seconds for growth in growths), default=0.0)),
        rebased=any(growth.rebased for growth in growths),
    )


def _grown(
    memory: Memory, scrapes: Iterable[Scrape], names: AbstractSet[str], window: timedelta, between_ticks: bool
) -> tuple[list[Growth], list[FailedScrape]]:
    """The growths of the pages that are believed, and what is not, or could not be read."""
    read = [
        one if isinstance(one, FailedScrape) else grow(memory, one, names, window, between_ticks=between_ticks)
        for one in scrapes
    ]
    return [one for one in read if isinstance(one, Growth)], [one for one in read if isinstance(one, FailedScrape)]


def _tick_silenced(memory: Memory, growths: Iterable[Growth]) -> bool:
    """True if the last tick saw so many calls that one without any, anywhere, is not believed."""
    return not _alive(growths) and _expected(memory, growths) >= TICK_EXPECTS_CALLS


def _snapshot_silenced(memory: Memory, growths: Iterable[Growth]) -> bool:
    """True if the last tick was silenced and no target has counted calls since, or far too many calls are missing.

    A snapshot comes at any time after a tick, often so soon that no call was due: its own silence alone says nothing.
    """
    inherited = any(target.silent for target in memory.targets.values())
    return not _alive(growths) and (inherited or _expected(memory, growths) >= SNAPSHOT_EXPECTS_CALLS)


def _alive(growths: Iterable[Growth]) -> bool:
    """True if some target counted calls, or restarted, which explains why it did not."""
    return any(growth.calls or growth.gap for growth in growths)


def _expected(memory: Memory, growths: Iterable[Growth]) -> float:
    """Calls that would have come at the last tick's rate."""
    known = ((memory.targets.get(growth.memory.target), growth.seconds) for growth in growths)
    return sum(before.rate * seconds for before, seconds in known if before is not None)


def _mismatched(memory: Memory, growths: Sequence[Growth], names: AbstractSet[str]) -> bool:
    """True if no series is of any running model, and it is not known that this is for want of calls.

    It is known if some running model has been among the series before, and no other name is called now.
    """
    if not growths or not names or any(not names.isdisjoint(growth.page.names.values()) for growth in growths):
        return False
    called = any(growth.calls for growth in growths) or any(target.rate > 0 for target in memory.targets.values())
    return called or not any(growth.memory.matched_at for growth in growths)


def _remember(
    memory: Memory,
    growths: Sequence[Growth],
    expected: Sequence[str],
    failed: Iterable[FailedScrape],
    fresh: Mapping[str, Mapping[float, float]],
    at: datetime,
    window: timedelta,
) -> Memory:
    targets = {target: memory.targets[target] for target in expected if target in memory.targets}
    targets.update({growth.memory.target: growth.memory for growth in growths})
    targets.update(_stale(memory, failed))
    gaps = memory.gaps + tuple(growth.gap for growth in growths if growth.gap)
    return Memory(targets, _used(memory.usage, fresh, at, window), gaps)


def _stale(memory: Memory, failed: Iterable[FailedScrape]) -> dict[str, TargetMemory]:
    """The targets that gave their last page again; of what that page proved, nothing changes."""
    return {
        scrape.target: replace(memory.targets[scrape.target], stale=True)
        for scrape in failed
        if scrape.reason is ScrapeProblem.STALE and scrape.target in memory.targets
    }


def _fresh(growths: Sequence[Growth], busy: AbstractSet[str]) -> dict[str, dict[float, float]]:
    """The new calls of each name by the seconds they came in; a request in flight is use without a call."""
    fresh = {name: dict[float, float]() for name in busy}
    spans = _spans(growths)
    for growth in growths:
        seconds = spans[growth.seconds]
        for name, calls in growth.calls.items():
            by_span = fresh.setdefault(name, {})
            by_span[seconds] = by_span.get(seconds, 0.0) + calls
    return fresh


def _spans(growths: Iterable[Growth]) -> dict[float, float]:
    """The seconds of the growths, as they are counted: those of pages read side by side as the longest of them."""
    spans, longest = dict[float, float](), math.inf
    for seconds in sorted({growth.seconds for growth in growths}, reverse=True):
        longest = seconds if seconds * ALIKE <= longest else longest
        spans[seconds] = longest
    return spans


def _used(
    usage: Mapping[str, Usage],
    fresh: Mapping[str, Mapping[float, float]],
    at: datetime,
    window: timedelta,
) -> Mapping[str, Usage]:
    """Usage with the new calls; the last use is the latest moment a call can have happened: when the page was read.

    Calls of a time to come were counted before the clock was set back: nobody knows how long ago they came.
    """
    now = at.timestamp()
    oldest, newest = (at - window).timestamp(), now + CLOCKS_APART
    merged = dict(usage)
    for name, used in usage.items():
        if (samples := used.samples) and (samples[0].until <= oldest or samples[-1].until > newest):
            first, end = (bisect(samples, Sample(until, math.inf, 0.0)) for until in (oldest, newest))
            merged[name] = Usage(used.last_used_at, samples[first:end])
    for name, by_span in fresh.items():
        before = merged.get(name)
        samples = before.samples if before else ()
        for seconds, calls in by_span.items():
            samples = _append(samples, Sample(now, seconds, calls), window.total_seconds() / SAMPLES_PER_WINDOW)
        merged[name] = Usage(max(at, before.last_used_at) if before else at, samples)
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
