"""The series of a page in the order of the page, and a value of each: for a large page the ways to hold and compare.

A page has the same series as the last one, but for a few. So the pages of one process share their `Layout`, and two
columns of one layout, or of one and the next, are compared value by value, without a look at any name.
"""

from array import array
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import compress, count
from operator import ne
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stretch:
    """So many series in a row, from this place on, stood in the layout before from `old` on."""

    place: int
    old: int
    length: int


@dataclass(slots=True, eq=False)
class Layout:
    """Which series a page has, and the model's name of each.

    `before` is the layout that this one came from, and the stretches that both have; it is kept for one step only.
    """

    series: Sequence[str]
    names: Sequence[str]
    before: "Layout | None" = None
    stretches: Sequence[Stretch] = ()
    _places: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.before is not None:
            self.before.before, self.before.stretches = None, ()

    def place(self, series: str) -> int:
        """Where the series stands; raises KeyError."""
        if not self._places:
            self._places = {one: place for place, one in enumerate(self.series)}
        return self._places[series]


class Column(Mapping[str, T]):
    """One value of each series of a layout, as a mapping by series."""

    __slots__ = ("layout", "of")

    def __init__(self, layout: Layout, of: Sequence[T]) -> None:
        """`of` has a value for each series, in their order."""
        self.layout = layout
        self.of = of

    def __getitem__(self, series: str) -> T:
        return self.of[self.layout.place(series)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.series)

    def __len__(self) -> int:
        return len(self.of)

    def values(self) -> ValuesView[T]:
        """The values in their order, without a look at any series."""
        return _Values(self)

    def items(self) -> ItemsView[str, T]:
        """Series and value, in their order."""
        return _Items(self)


class _Values(ValuesView[Any]):
    _mapping: Column[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping.of)


class _Items(ItemsView[str, Any]):
    _mapping: Column[Any]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return zip(self._mapping.layout.series, self._mapping.of, strict=True)


@dataclass(frozen=True, slots=True)
class Changes:
    """Where a column differs from an earlier one: places, and the values then (0 if there was none) and now.

    `added` are the places of series that the earlier one has not, `vanished` the series that only that one has.
    """

    layout: Layout
    places: Sequence[int]
    old: Sequence[float]
    new: Sequence[float]
    added: Sequence[int] = ()
    vanished: Sequence[str] = ()

    def named(self, *, apart: AbstractSet[int] = frozenset()) -> Iterable[tuple[str, float, float]]:
        """The model's name, the value before and the value now, for each changed series but those at places `apart`."""
        names = self.layout.names
        rows = zip([names[place] for place in self.places], self.old, self.new, strict=True)
        return compress(rows, [place not in apart for place in self.places]) if apart else rows

    def rows(self) -> Iterator[tuple[str, str, float]]:
        """Series, model name and value of everything changed or added."""
        series, names, added = self.layout.series, self.layout.names, set(self.added).difference(self.places)
        for place, value in zip(self.places, self.new, strict=True):
            yield series[place], names[place], value
        for place in sorted(added):
            yield series[place], names[place], 0.0  # what is added and has not changed counts nothing yet


def changes(before: Mapping[str, float], now: Mapping[str, float]) -> Changes | None:
    """What changed between two columns of one layout, or of one and the next; None: they must be compared by series."""
    if not isinstance(now, Column) or not isinstance(before, Column):
        return None
    if now.layout is before.layout:
        return _differing(now, before.of)
    stretches = now.layout.stretches
    if now.layout.before is not before.layout:
        return None
    old = array("d", bytes(8 * len(now)))
    for one in stretches:
        old[one.place : one.place + one.length] = array("d", before.of[one.old : one.old + one.length])
    added = _missing(((one.place, one.length) for one in stretches), len(now))
    vanished = _missing(((one.old, one.length) for one in stretches), len(before))
    return _differing(now, old, added, [before.layout.series[place] for place in vanished])


def _differing(
    now: Column[float], old: Sequence[float], added: Sequence[int] = (), vanished: Sequence[str] = ()
) -> Changes:
    places = list(compress(count(), map(ne, old, now.of)))
    return Changes(now.layout, places, [old[n] for n in places], [now.of[n] for n in places], added, vanished)


def _missing(stretches: Iterable[tuple[int, int]], length: int) -> list[int]:
    """The places below `length` that are in none of the stretches, each given by its start and length."""
    missing: list[int] = []
    end = 0
    for start, covered in sorted(stretches):
        missing.extend(range(end, start))
        end = start + covered
    missing.extend(range(end, length))
    return missing


def rows(counters: Mapping[str, float], names: Mapping[str, str]) -> Iterable[tuple[str, str, float]]:
    """Series, model name and value of each counter."""
    if isinstance(counters, Column):
        return zip(counters.layout.series, counters.layout.names, counters.of, strict=True)
    return ((series, names[series], value) for series, value in counters.items())


def differing(
    before: Mapping[str, float], counters: Mapping[str, float], names: Mapping[str, str]
) -> Iterable[tuple[str, float, float]]:
    """Model name, value before and value now of each counter, at least of those that differ; a new one was 0."""
    if list(before) == list(counters):  # a page mostly has the series of the last one, in their order
        moved = compress(counters, map(ne, before.values(), counters.values()))
        return ((names[series], before[series], counters[series]) for series in moved)
    known = dict(before)
    return ((name, known.get(series, 0.0), value) for series, name, value in rows(counters, names))
