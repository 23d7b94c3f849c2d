"""Which pages are of another process than the last page of their target, whatever they say."""

from datetime import datetime, timedelta

from limiter.domain.difference import Difference
from limiter.domain.rates import mean_rate
from limiter.domain.usage import Memory, ScrapedPage, TargetMemory

START_JITTER = 1.0  # seconds: a start time is computed from the time of boot, which moves a little with the clock
BURST = 10.0  # times its rate: more than that no process is called from one reading to the next
SUDDEN = 1000.0  # calls per second that come upon an idle process at once; a balancer shows the history of weeks
SUDDEN_OF_ONE = 10_000.0  # the same, of a process that says that it is the one read before: what one can pass on
RESTARTED = 100.0  # calls per second upon an idle process that has just restarted
RESTARTED_WITH = 1000.0  # calls, however short the time since the restart: fewer do no harm, whoever counted them


def started_anew(before: TargetMemory, page: ScrapedPage) -> bool:
    """True if the process says that it is not the one of the last page."""
    return (
        page.started_at is not None
        and before.started_at is not None
        and abs(page.started_at - before.started_at) > START_JITTER
    )


def has_lost_series(memory: Memory, page: ScrapedPage) -> bool:
    """True if series of this very process fell or vanished before: what appears may be as old as it is."""
    return page.started_at is not None and any(
        gap.target == page.target and page.started_at < gap.since.timestamp() - START_JITTER for gap in memory.gaps
    )


def another_process(
    memory: Memory, before: TargetMemory, page: ScrapedPage, found: Difference, window: timedelta
) -> str | None:
    """What shows that the page is of another process, which did not just replace the one of the last page."""
    if not started_anew(before, page):
        same = page.started_at is not None and page.started_at == before.started_at
        return _too_much(memory, before, found, page.read_at, window, SUDDEN_OF_ONE if same else SUDDEN)
    # The second is for the clocks: a restart right after the reading must not look like an earlier one.
    if page.started_at is None or page.started_at > before.read_at.timestamp() - START_JITTER:
        return None
    return "a process answers that was running at the last reading already, and is not the one read then"


def _too_much(
    memory: Memory, before: TargetMemory, found: Difference, at: datetime, window: timedelta, sudden: float
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
