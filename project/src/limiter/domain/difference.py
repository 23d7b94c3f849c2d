"""How a page differs from the last one of its target."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from limiter.domain.columns import changes, differing
from limiter.domain.usage import ScrapedPage, TargetMemory


@dataclass(frozen=True, slots=True)
class Difference:
    """How a page differs from the last: calls by name and in all, and whether some series fell or vanished."""

    calls: Mapping[str, float]
    total: float
    fell: bool


def difference(before: TargetMemory, old: Mapping[str, float], page: ScrapedPage, *, lost: bool = False) -> Difference:
    """The page's growth over the `old` counters; `lost`: series of this very process fell or vanished earlier.

    What appears on such a page, or in place of what vanishes, may be history: it counts as use, but not as calls.
    """
    runs_on = page.started_at is not None and page.started_at < before.read_at.timestamp()
    if (columns := changes(old, page.counters)) is not None and not page.unreadable:
        vanished = bool(columns.vanished)
        appeared = frozenset(columns.added if lost or (runs_on and vanished) else ())
        names = {columns.layout.names[place] for place in columns.places if place in appeared}
        return _summed(columns.named(apart=appeared), vanished, names)
    vanished = not before.counters.keys() <= page.counters.keys() | page.unreadable.keys()
    added = page.counters.keys() - old.keys() if lost or (runs_on and vanished) else ()
    history = {series: page.counters[series] for series in added}
    names = {page.names[series] for series, value in history.items() if value > 0}
    return _summed(differing({**old, **history} if history else old, page.counters, page.names), vanished, names)


def _summed(moved: Iterable[tuple[str, float, float]], fell: bool, used: AbstractSet[str]) -> Difference:
    """The difference that counters make: model name, value before, value now; `used` are names used without a call."""
    calls, total = dict.fromkeys(used, 0.0), 0.0
    for name, known, value in moved:
        if value == known:
            continue
        fell = fell or value < known
        grown = value - known if value > known else value
        if grown > 0:
            calls[name] = calls.get(name, 0.0) + grown
            total += grown
    return Difference(calls, total, fell)
