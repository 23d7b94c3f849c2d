"""A replay in plain text: a timeline of what is done, and what it comes to, several settings side by side."""

from collections.abc import Callable, Iterator, Sequence

from limiter.domain.action import Decision
from limiter.replay.tally import Tally

WIDTH = 14  # columns of one setting
LABEL = 28

ROWS: dict[str, Callable[[Tally], str]] = {
    "scaled up": lambda tally: str(tally.count(Decision.SCALE_UP)),
    "scaled down": lambda tally: str(tally.count(Decision.SCALE_DOWN)),
    "replica-hours": lambda tally: f"{tally.replica_hours:.1f}",
    "warnings": lambda tally: str(tally.count(Decision.WARN)),
    "warnings withdrawn": lambda tally: str(tally.count(Decision.WITHDRAW)),
    "slots cancelled": lambda tally: str(tally.slots_cancelled),
    "booked hours freed": lambda tally: f"{tally.booked_hours_freed:.1f}",
    "models uninstalled": lambda tally: str(tally.count(Decision.UNINSTALL)),
    "decisions as recorded": lambda tally: f"{tally.as_recorded} of {tally.recorded}",
    "decisions not recorded": lambda tally: str(tally.extra.total()),
}


def lines(tallies: Sequence[Tally]) -> Iterator[str]:
    """The timeline of the first, then all of them side by side."""
    first = tallies[0]
    yield f"{first.hours:.1f} hours from {first.began_at:%Y-%m-%d %H:%M} UTC, {first.ticks} ticks; {first.name}:"
    yield ""
    for act in first.acts:
        user = f" (user {act.user_id})" if act.user_id else ""
        yield f"{act.at:%d %H:%M:%S}  {act.decision:<10}  {act.model_name}{user}: {act.why}"
    yield ""
    yield " " * LABEL + "".join(f"{tally.name:>{WIDTH}}" for tally in tallies)
    for label, shown in ROWS.items():
        yield f"{label:<{LABEL}}" + "".join(f"{shown(tally):>{WIDTH}}" for tally in tallies)
