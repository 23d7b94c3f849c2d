"""How a page differs from the last one of its target."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from limiter.domain.columns import changes, differing
from limiter.domain.usage import ScrapedPage, TargetMemory


@dataclass(frozen=True, slots=True)
class Difference:
    """How a page differs from the last: calls by name and in all, and whether some series fell or vanished."""

    calls: Mapping[str, float]
    total: float
    fell: bool


def difference(before: TargetMemory, old: Mapping[str, float], page: ScrapedPage) -> Difference:
    """The page's growth over the `old` counters."""
    if (columns := changes(old, page.counters)) is not None and not page.unreadable:
        return _summed(columns.named(), bool(columns.vanished))
    fell = not before.counters.keys() <= page.counters.keys() | page.unreadable.keys()
    return _summed(differing(old, page.counters, page.names), fell)


def _summed(moved: Iterable[tuple[str, float, float]], fell: bool) -> Difference:
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
    return Difference(calls, total, fell)
