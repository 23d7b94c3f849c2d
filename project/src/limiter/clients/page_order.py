"""The label sets of a page in their order, compared with those of the page before: only what is new is looked at."""

from collections.abc import Iterable
from itertools import accumulate, compress

from limiter.clients.known_page import KnownPage, SeriesCache, SeriesNames
from limiter.clients.label_sets import BrokenPage, Shape
from limiter.domain.columns import Layout, Stretch

AHEAD = 10_000  # label sets: how far a stretch may have moved; more than stand in one block of the largest size


class PageOrder:
    """Takes the label sets of a page, some at a time."""

    def __init__(self, cache: SeriesCache) -> None:
        self._cache = cache
        self._known = cache.page
        self._place = 0  # in the known page
        self._length = 0
        self._stretches: list[Stretch] = []
        self._fresh: list[tuple[int, list[bytes]]] = []  # place on this page, and the label sets

    @property
    def knows_more(self) -> bool:
        """Whether the known page has label sets that have not come yet."""
        return self._place < len(self._known.raws)

    def following(self, raw: bytes, count: int) -> list[bytes]:
        """So many label sets of the known page, from the next such one on; none if there is none near."""
        start = self._next(raw)
        return self._known.raws[start : start + count]

    def _next(self, raw: bytes) -> int:
        """Where the label set comes next on the known page; its end if it is not near."""
        try:
            return self._known.raws.index(raw, self._place, self._place + AHEAD)
        except ValueError:
            return len(self._known.raws)

    def take(self, raws: list[bytes]) -> None:
        """The next label sets of the page."""
        start, count = self._next(raws[0]), len(raws)
        if self._known.raws[start : start + count] == raws:
            self._stretches.append(Stretch(self._length, start, count))
            self._place = start + count
        else:
            self._fresh.append((self._length, raws))
        self._length += count

    def finish(self) -> KnownPage:
        """The page as it is known from now on; raises BrokenPage if a series stands twice."""
        if not self._fresh and self._length == len(self._known.raws):
            return self._known
        raws = [b""] * self._length
        for one in self._stretches:
            raws[one.place : one.place + one.length] = self._known.raws[one.old : one.old + one.length]
        for start, fresh in self._fresh:
            raws[start : start + len(fresh)] = fresh
        # Another job may have read the same page meanwhile.
        if self._cache.page is self._known or self._cache.page.raws != raws:
            self._cache.page = self._changed(raws)
        return self._cache.page

    def _changed(self, raws: list[bytes]) -> KnownPage:
        known, names = self._known, list[str | None]([None]) * self._length
        for one in self._stretches:
            names[one.place : one.place + one.length] = known.names[one.old : one.old + one.length]
        left = self._left()
        added = []
        for start, fresh in self._fresh:
            for place, raw in enumerate(fresh, start):
                old = left.pop(raw, None)
                if old is None:
                    added.append(place)
                else:
                    names[place] = known.names[old]
                    self._stretches.append(Stretch(place, old, 1))
        shape = self._name(added, raws, names)
        page = self._laid_out(raws, names, shape)
        self._check_once(page, [raws[place] for place in added if names[place] is not None])
        return page

    def _left(self) -> dict[bytes, int]:
        """The places of the known label sets that are in no stretch."""
        covered = bytearray(len(self._known.raws))
        for one in self._stretches:
            covered[one.old : one.old + one.length] = b"\x01" * one.length
        return {raw: place for place, raw in enumerate(self._known.raws) if not covered[place]}

    def _name(self, added: list[int], raws: list[bytes], names: list[str | None]) -> Shape | None:
        """Put in the names of what is added; returns the shape of the whole page, if it has one."""
        shape = self._known.shape
        if not added:
            return shape
        news = [raws[place] for place in added]
        if not self._known.raws or shape is None:
            shape = Shape.of(self._cache.family, news[0])
        found = shape.names(news) if shape else None
        if found is None or shape is None:
            parsed = [self._cache.family.parsed(raw) for raw in news]
            found, shape = [one and one[1] for one in parsed], None
        for place, name in zip(added, found, strict=True):
            names[place] = name
        return shape if shape is self._known.shape or len(added) == len(raws) else None

    def _laid_out(self, raws: list[bytes], names: list[str | None], shape: Shape | None) -> KnownPage:
        family, known = self._cache.family, self._known
        counting = [name for name in names if name is not None]
        all_count = len(counting) == len(names)
        series = SeriesNames(family, shape, raws if all_count else list(compress(raws, map(_counts, names))))
        # Of several shapes, two label sets may be one series: then only the series themselves can be compared.
        follows = shape is not None and shape is known.shape
        stretches = self._counted(names) if follows else []
        return KnownPage(raws, names, shape, Layout(series, counting, known.layout if follows else None, stretches))

    def _counted(self, names: list[str | None]) -> list[Stretch]:
        """The stretches, in places among those label sets that count."""
        if None not in names and None not in self._known.names:
            return self._stretches
        here, before = (
            [0, *accumulate(map(_counts, names))],
            [0, *accumulate(map(_counts, self._known.names))],
        )
        found = (
            Stretch(here[one.place], before[one.old], here[one.place + one.length] - here[one.place])
            for one in self._stretches
        )
        return [one for one in found if one.length]

    def _check_once(self, page: KnownPage, added: list[bytes]) -> None:
        """Raise BrokenPage if a series stands twice: of one shape, raw label sets tell as much as series do."""
        shape = page.shape
        if shape is None:
            _once(page.layout.series)
            return
        fresh = _once(added, shape)
        if shape is self._known.shape and fresh:
            again = next((raw for raw in self._known.raws if raw in fresh), None)
            if again is not None:
                raise BrokenPage(f"series {{{shape.series(again)}}} stands twice on the page")


def _once(series: Iterable[str | bytes], shape: Shape | None = None) -> set[str | bytes]:
    """The series, or label sets of a shape, one by one, so that other threads can go on; raises BrokenPage."""
    known = set[str | bytes]()
    for one in series:
        if one in known:
            again = shape.series(one) if shape and isinstance(one, bytes) else one
            raise BrokenPage(f"series {{{again!s}}} stands twice on the page")
        known.add(one)
    return known


def _counts(name: str | None) -> bool:
    return name is not None
