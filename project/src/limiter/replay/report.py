"""A replay in plain text: a timeline of what is done and its totals, several settings side by side."""

from collections.abc import Callable, Iterator, Sequence

from limiter.domain.decision import Decision
from limiter.replay.summary import Summary

WIDTH = 14  # columns of one setting
LABEL = 28

ROWS: dict[str, Callable[[Summary], str]] = {
    "scaled up": lambda summary: str(summary.count(Decision.SCALE_UP)),
    "scaled down": lambda summary: str(summary.count(Decision.SCALE_DOWN)),
    "replica-hours": lambda summary: f"{summary.replica_hours:.1f}",
    "warnings": lambda summary: str(summary.count(Decision.WARN)),
    "warnings withdrawn": lambda summary: str(summary.count(Decision.WITHDRAW)),
    "slots cancelled": lambda summary: str(summary.slots_cancelled),
    "booked hours freed": lambda summary: f"{summary.booked_hours_freed:.1f}",
    "models uninstalled": lambda summary: str(summary.count(Decision.UNINSTALL)),
    "decisions as recorded": lambda summary: f"{summary.as_recorded} of {summary.recorded}",
    "decisions not recorded": lambda summary: str(summary.extra.total()),
}


def lines(summaries: Sequence[Summary]) -> Iterator[str]:
    """The timeline of the first, then all of them side by side."""
    first = summaries[0]
    yield f"{first.hours:.1f} hours from {first.began_at:%Y-%m-%d %H:%M} UTC, {first.ticks} ticks; {first.name}:"
    yield ""
    for act in first.acts:
        user = f" (user {act.user_id})" if act.user_id else ""
        yield f"{act.at:%d %H:%M:%S}  {act.decision:<10}  {act.model_name}{user}: {act.why}"
    yield ""
    yield " " * LABEL + "".join(f"{summary.name:>{WIDTH}}" for summary in summaries)
    for label, shown in ROWS.items():
        yield f"{label:<{LABEL}}" + "".join(f"{shown(summary):>{WIDTH}}" for summary in summaries)
