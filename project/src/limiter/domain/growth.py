"""What one page adds to the memory of its target, and which pages must not be believed.

A page that repeats itself although it counts its own scrapes is an old one. A page of another process than the last
one, although neither has just started, comes from behind a load balancer. Neither is folded in: the memory stays at the
last page that was believed, as after a reading that failed. Of two processes behind one address only the one that was
read first is followed; a process that is seen alone for two windows takes its place, and its history is no use.
A series that appears where series were lost, though the process went on, may be as old as the process.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from limiter.domain.difference import Difference, difference
from limiter.domain.doubt import another_process, has_lost_series, started_anew
from limiter.domain.usage import FailedScrape, Gap, Heartbeat, Memory, ScrapedPage, ScrapeProblem, TargetMemory

# Seconds. CPU time is shown in hundredths of a second: in so many even an idle process, which at least serves its page,
# needs one. In less it may need none, as between a tick and a run by hand.
CPU_MOVES_WITHIN = 5.0
# Seconds. Another replica's clock may have shown so much more when the last page was read (CLOCK_SKEW_LIMIT_SECONDS);
# the longer the time that calls are spread over, the less they look like a burst.
CLOCKS_APART = 10.0


@dataclass(frozen=True, slots=True)
class Growth:
    """What one page adds to the memory of its target: calls by model name, in so many seconds.

    `rebased` tells a baseline that is not the very first: calls were read before, and not all of them go on here.
    """

    page: ScrapedPage
    memory: TargetMemory
    calls: Mapping[str, float]
    seconds: float
    gap: Gap | None
    rebased: bool = False


def grow(
    memory: Memory,
    page: ScrapedPage,
    names: AbstractSet[str],
    window: timedelta,
    *,
    between_ticks: bool = False,
) -> Growth | FailedScrape:
    """Calls counted between two good readings of a target; one never read before, or not so, only sets the baseline."""
    before = memory.targets.get(page.target)
    same = before is not None and _is_same(before, page)
    if before is not None and same and _is_old(before, page, between_ticks):
        detail = f"the page is the same to the byte as at {before.read_at:%H:%M:%S}"
        return FailedScrape(page.target, ScrapeProblem.STALE, detail)
    matches = not names.isdisjoint(page.names.values())
    if before is None or _read_as_another(before, page):
        target = _target(page, page.read_at, 0.0, page.counters, page.read_at if matches else None)
        return Growth(page, target, {}, 0.0, None, rebased=bool(memory.targets or memory.usage))
    if same and not between_ticks:
        return Growth(page, before, {}, 0.0, None)  # its time is still that of the last: the seconds add up
    return _grown(memory, before, page, window, page.read_at if matches else before.matched_at)


def _grown(
    memory: Memory, before: TargetMemory, page: ScrapedPage, window: timedelta, matched_at: datetime | None
) -> Growth | FailedScrape:
    """The growth of a page over the one before, of the same series."""
    anew = started_anew(before, page)
    old: Mapping[str, float] = {} if anew else before.counters
    found = difference(before, old, page, lost=has_lost_series(memory, page))
    seconds = _seconds(before, page, found)
    doubt = another_process(memory, before, page, found, window)
    if doubt and page.read_at - before.read_at <= 2 * window:
        return FailedScrape(page.target, ScrapeProblem.BALANCED, doubt)
    # Some series fell or vanished: the process restarted, whatever it says.
    gap = Gap(page.target, before.read_at, page.read_at) if anew or found.fell or doubt else None
    rate = found.total / seconds if seconds > 0 else before.rate
    if doubt:
        rate = 0.0 if anew or found.fell else rate  # it may just be busier than was thought possible
        return Growth(page, _target(page, before.first_read_at, rate, page.counters, matched_at), {}, seconds, gap)
    # An unreadable series keeps its old value: when it can be read again, the growth since then still shows.
    kept = {series: old[series] for series in page.unreadable if series in old}
    target = _target(page, before.first_read_at, rate, {**page.counters, **kept} if kept else page.counters, matched_at)
    return Growth(page, target, found.calls, seconds, gap)


def _seconds(before: TargetMemory, page: ScrapedPage, found: Difference) -> float:
    """Between the two pages; calls without time, by the clocks, came within the most that those may be apart."""
    seconds = (page.read_at - before.read_at).total_seconds()
    return seconds if seconds > 0 or not found.total else CLOCKS_APART


def _target(
    page: ScrapedPage,
    first: datetime,
    rate: float,
    counters: Mapping[str, float],
    matched_at: datetime | None,
) -> TargetMemory:
    return TargetMemory(
        target=page.target,
        first_read_at=min(first, page.read_at),  # the clock may have been set back since
        read_at=page.read_at,
        started_at=page.started_at,
        rate=rate,
        counters=counters,
        names={**page.unreadable, **page.names} if page.unreadable else page.names,
        matched_at=matched_at,
        page_digest=page.digest,
        read_as=page.read_as,
    )


def _read_as_another(before: TargetMemory, page: ScrapedPage) -> bool:
    """True if the page shows other series than the last one, because it was read under other settings."""
    # What an earlier version remembered does not tell, and is taken for the same.
    return None not in (before.read_as, page.read_as) and before.read_as != page.read_as


def _is_same(before: TargetMemory, page: ScrapedPage) -> bool:
    """True if the page is the last one again, although it has a counter of its own that moves."""
    return page.digest is not None and page.digest == before.page_digest and page.heartbeat is not None


def _is_old(before: TargetMemory, page: ScrapedPage, between_ticks: bool) -> bool:
    """True if the counter of a page that is the last one again must have moved by now."""
    if page.heartbeat is Heartbeat.SCRAPES or before.stale:
        return True
    # Between ticks a page may be read a moment after the last, in which an idle process needs no CPU time.
    return not between_ticks and (page.read_at - before.read_at).total_seconds() >= CPU_MOVES_WITHIN
