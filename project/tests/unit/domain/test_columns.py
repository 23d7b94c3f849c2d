"""Columns of one layout and the next compare as dictionaries do, whatever comes, goes or moves on a page."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import Family
from limiter.db.readings import changed
from limiter.domain.columns import Column, changes
from limiter.domain.folding import fold
from limiter.domain.usage import Memory, ScrapedPage
from tests.unit.clients.pages import read
from tests.unit.domain.build import at, secs

FAMILY = Family("model_calls_total", "model_name", {"of": "us"})
WINDOW = secs(300)
NAMES = [f"m{number}" for number in range(8)]
PAGES = st.lists(st.lists(st.sampled_from(NAMES), unique=True, max_size=8), min_size=2, max_size=6)
VALUES = st.lists(st.integers(0, 3), min_size=8, max_size=8)


def page(
    names: Sequence[str],
    values: Sequence[int],
    cache: SeriesCache | None,
    cuts: tuple[int, ...],
    started: float | None = None,
) -> ScrapedPage:
    """A page of two series for each name, one of which does not count; the others by the names' own values."""
    lines = [
        f'model_calls_total{{model_name="{name}",of="{of}"}} {values[NAMES.index(name)]}\n'
        for name in names
        for of in ("us", "them")
    ]
    text = "# TYPE model_calls counter\n" + "".join(lines)
    series = read(text.encode(), cache or SeriesCache(FAMILY), cuts)
    counters = series.counters if cache else dict(series.counters)
    return ScrapedPage("a", at(0), counters, series.names if cache else dict(series.names), started_at=started)


def read_at(now: datetime, page: ScrapedPage) -> ScrapedPage:
    return replace(page, read_at=now)


@given(pages=PAGES, started=st.sampled_from([None, at(-500).timestamp()]), data=st.data())
def test_any_pages_are_folded_and_written_as_if_each_was_a_dictionary(
    pages: list[list[str]], started: float | None, data: st.DataObject
) -> None:
    cache, plain, columns = SeriesCache(FAMILY), Memory(), Memory()
    for number, names in enumerate(pages):
        values, cuts = data.draw(VALUES), tuple(data.draw(st.lists(st.integers(0, 400), max_size=3)))
        now = at(15 * number)
        by_column = fold(columns, [read_at(now, page(names, values, cache, cuts, started))], {"m0", "m1"}, now, WINDOW)
        by_name = fold(plain, [read_at(now, page(names, values, None, (), started))], {"m0", "m1"}, now, WINDOW)
        assert (by_column.fresh, by_column.restarts, by_column.complete) == (
            by_name.fresh,
            by_name.restarts,
            by_name.complete,
        )
        written, expected = changed(columns, by_column.memory), changed(plain, by_name.memory)
        assert [sorted(rows) for rows in written.series] == [sorted(rows) for rows in expected.series]
        assert {target: set(gone) for target, gone in written.gone.items()} == {
            target: set(gone) for target, gone in expected.gone.items()
        }
        plain, columns = by_name.memory, by_column.memory
        assert columns == plain


def test_a_series_that_comes_in_the_middle_leaves_the_rest_comparable() -> None:
    cache = SeriesCache(FAMILY)
    before = page(NAMES[:3] + NAMES[4:], [1] * 8, cache, ())
    after = page(NAMES, [1] * 3 + [2] * 2 + [1] * 3, cache, ())
    found = changes(before.counters, after.counters)
    assert found is not None
    assert [tuple(row) for row in found.named()] == [("m3", 0.0, 2.0), ("m4", 1.0, 2.0)]
    assert (found.added, found.vanished) == ([3], [])


def test_pages_alike_share_a_layout_and_a_label_more_makes_another() -> None:
    cache = SeriesCache(FAMILY)
    first, again = page(NAMES, [1] * 8, cache, ()), page(NAMES, [2] * 8, cache, (7, 90))
    assert isinstance(first.counters, Column)
    assert isinstance(again.counters, Column)
    assert first.counters.layout is again.counters.layout
    cut_off = page(NAMES[1:], [2] * 8, cache, ())
    found = changes(again.counters, cut_off.counters)
    assert found is not None
    assert found.vanished == ["model_name='m0',of='us'"]
