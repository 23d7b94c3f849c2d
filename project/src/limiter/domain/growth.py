"""What one page adds to the memory of its target, and which pages must not be believed.

A page that repeats itself although it counts its own scrapes is an old one. A page of another process than the last
one, although neither has just started, comes from behind a load balancer. Neither is folded in: the memory stays at the
last page that was believed, as after a reading that failed. Of two processes behind one address only the one that was
read first is followed; a process that is seen alone for two windows takes its place, and its history is no use.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from limiter.domain.columns import changes, differing
from limiter.domain.usage import (
    FailedScrape,
    Gap,
    Heartbeat,
    Memory,
    ScrapedPage,
    ScrapeProblem,
    TargetMemory,
    mean_rate,
)

START_JITTER = 1.0  # seconds: a start time is computed from the time of boot, which moves a little with the clock
BURST = 10.0  # times its rate: more than that no process is called from one reading to the next
SUDDEN = 1000.0  # calls per second that come upon an idle process at once; a balancer shows the history of weeks
SUDDEN_OF_ONE = 10_000.0  # the same, of a process that says that it is the one read before: what one can pass on
RESTARTED = 100.0  # calls per second upon an idle process that has just restarted
RESTARTED_WITH = 1000.0  # calls, however short the time since the restart: fewer do no harm, whoever counted them


@dataclass(frozen=True, slots=True)
class Growth:
    """What one page adds to the memory of its target: calls by model name, in so many seconds."""

    page: ScrapedPage
    memory: TargetMemory
    calls: Mapping[str, float]
    seconds: float
    gap: Gap | None


@dataclass(frozen=True, slots=True)
class _Difference:
    """How a page differs from the last: calls by name and in all, and whether some series fell or vanished."""

    calls: Mapping[str, float]
    total: float
    fell: bool


def grow(
    memory: Memory,
    page: ScrapedPage,
    names: AbstractSet[str],
    at: datetime,
    window: timedelta,
    *,
    between_ticks: bool = False,
) -> Growth | FailedScrape:
    """Calls counted between two good readings of one target; a target never read before only sets the baseline."""
    before = memory.targets.get(page.target)
    matched_at = before.matched_at if before else None
    if not names.isdisjoint(page.names.values()):
        matched_at = at
    if before is None:
        return Growth(page, _target(page, at, at, 0.0, page.counters, matched_at), {}, 0.0, None)
    if _repeats(before, page, between_ticks):
        detail = f"the page is the same to the byte as at {before.read_at:%H:%M:%S}"
        return FailedScrape(page.target, ScrapeProblem.STALE, detail)
    anew = _started_anew(before, page)
    old: Mapping[str, float] = {} if anew else before.counters
    found = _difference(before, old, page)
    seconds = (at - before.read_at).total_seconds()
    doubt = _another_process(memory, before, page, found, at, window)
    if doubt and at - before.read_at <= 2 * window:
        return FailedScrape(page.target, ScrapeProblem.BALANCED, doubt)
    # Some series fell or vanished: the process restarted, whatever it says.
    gap = Gap(page.target, before.read_at, at) if anew or found.fell or doubt else None
    rate = found.total / seconds if seconds > 0 else before.rate
    if doubt:
        rate = 0.0 if anew or found.fell else rate  # it may just be busier than was thought possible
        return Growth(page, _target(page, before.first_read_at, at, rate, page.counters, matched_at), {}, seconds, gap)
    # An unreadable series keeps its old value: when it can be read again, the growth since then still shows.
    kept = {series: old[series] for series in page.unreadable if series in old}
    target = _target(
        page, before.first_read_at, at, rate, {**page.counters, **kept} if kept else page.counters, matched_at
    )
    return Growth(page, target, found.calls, seconds, gap)


def _target(
    page: ScrapedPage,
    first: datetime,
    at: datetime,
    rate: float,
    counters: Mapping[str, float],
    matched_at: datetime | None,
) -> TargetMemory:
    return TargetMemory(
        target=page.target,
        first_read_at=first,
        read_at=at,
        started_at=page.started_at,
        rate=rate,
        counters=counters,
        names={**page.unreadable, **page.names} if page.unreadable else page.names,
        matched_at=matched_at,
        page_digest=page.digest,
    )


def _difference(before: TargetMemory, old: Mapping[str, float], page: ScrapedPage) -> _Difference:
    """The page's growth over the `old` counters."""
    if (columns := changes(old, page.counters)) is not None and not page.unreadable:
        return _summed(columns.named(), bool(columns.vanished))
    fell = not before.counters.keys() <= page.counters.keys() | page.unreadable.keys()
    return _summed(differing(old, page.counters, page.names), fell)


def _summed(moved: Iterable[tuple[str, float, float]], fell: bool) -> _Difference:
    """The difference that counters make: model name, value before, value now."""
    calls, total = dict[str, float](), 0.0
    for name, known, value in moved:
        if value == known:
            continue
        fell = fell or value < known
        grown = value - known if value > known else value
        if grown > 0:
            calls[name] = calls.get(name, 0.0) + grown
            total += grown
    return _Difference(calls, total, fell)


def _repeats(before: TargetMemory, page: ScrapedPage, between_ticks: bool) -> bool:
    """True if the page is the last one again, although it has a counter of its own that must have moved."""
    if page.digest is None or page.digest != before.page_digest or page.heartbeat is None:
        return False
    # Between ticks a page may be read a moment after the last, in which an idle process needs no CPU time.
    return not between_ticks or before.stale or page.heartbeat is Heartbeat.SCRAPES


def _started_anew(before: TargetMemory, page: ScrapedPage) -> bool:
    """True if the process says that it is not the one of the last page."""
    return (
        page.started_at is not None
        and before.started_at is not None
        and abs(page.started_at - before.started_at) > START_JITTER
    )


def _another_process(
    memory: Memory, before: TargetMemory, page: ScrapedPage, found: _Difference, at: datetime, window: timedelta
) -> str | None:
    """What shows that the page is of another process, which did not just replace the one of the last page."""
    if not _started_anew(before, page):
        same = page.started_at is not None and page.started_at == before.started_at
        return _too_much(memory, before, found, at, window, SUDDEN_OF_ONE if same else SUDDEN)
    # The second is for the clocks: a restart right after the reading must not look like an earlier one.
    if page.started_at is None or page.started_at > before.read_at.timestamp() - START_JITTER:
        return None
    return "a process answers that was running at the last reading already, and is not the one read then"


def _too_much(
    memory: Memory, before: TargetMemory, found: _Difference, at: datetime, window: timedelta, sudden: float
) -> str | None:
    """Why neither calls nor a restart explain how the counters moved.

    After a restart they count from zero, so that they cannot show many calls; nor do they fall again and again.
    """
    seconds = max((at - before.read_at).total_seconds(), 1.0)
    if not found.fell:
        if found.total <= (BURST * before.rate + sudden) * seconds:
            return None
        most = (BURST * max(before.rate, _recent_rate(memory, before, window)) + sudden) * seconds
        return f"{found.total:.0f} calls appear in {seconds:.0f} s" if found.total > most else None
    if _fell_lately(memory, before, at, window) and found.total + sum(before.counters.values()) > RESTARTED_WITH:
        return f"counters fall for the second time within {window.total_seconds():.0f} s"
    usual = before.rate
    if seconds <= window.total_seconds():
        # A jump up just before the fall may be another process' as well: the mean is not led astray by it so far.
        usual = min(usual, _recent_rate(memory, before, window))
    most = (BURST * usual + RESTARTED) * seconds + RESTARTED_WITH
    if found.total <= most:
        return None
    return f"counters fall, and would show {found.total:.0f} calls in {seconds:.0f} s since a restart"


def _fell_lately(memory: Memory, before: TargetMemory, at: datetime, window: timedelta) -> bool:
    return any(gap.target == before.target and at - gap.until < window for gap in memory.gaps)


def _recent_rate(memory: Memory, before: TargetMemory, window: timedelta) -> float:
    """Calls per second, over all targets, in the window before the last reading of this one."""
    at, span = before.read_at.timestamp(), window.total_seconds()
    return sum(mean_rate(used.samples, at, span) for used in memory.usage.values() if used.samples)
