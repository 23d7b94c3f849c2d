"""The page reader answers as prometheus_client does, or refuses the page: nothing is lost in silence."""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.clients.exposition import FamilyReader, NoFamily
from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import BrokenPage, Family
from limiter.domain.folding import fold
from limiter.domain.shard import Shard
from limiter.domain.usage import Heartbeat, Memory, ScrapedPage
from tests.unit.clients import pages
from tests.unit.clients.pages import CUTS, FAMILY, LABEL, METRIC, Found, Refused, expected, found, read, read_page

MANY = settings(deadline=None, database=None, max_examples=int(os.environ.get("PAGE_EXAMPLES", "40")))
TEXT = st.text(st.characters(exclude_characters="\x00"), max_size=5)  # a name with NUL does not count
ONE = b'model_calls_total{model_name="m"} 1\n'


@MANY
@given(page=pages.legal_pages(), cuts=CUTS)
def test_every_lawful_page_is_read_as_prometheus_client_reads_it(page: bytes, cuts: tuple[int, ...]) -> None:
    assert found(read(page, cuts=cuts)) == expected(page)


@MANY
@given(page=pages.legal_pages(), cuts=CUTS)
def test_a_cache_that_knows_the_page_changes_no_answer(page: bytes, cuts: tuple[int, ...]) -> None:
    cache = SeriesCache(FAMILY)
    first = read(page, cache)
    assert read(page, cache, cuts) == first


@MANY
@given(two=pages.pages_one_after_the_other(), cuts=CUTS)
def test_what_is_known_of_the_page_before_changes_no_answer(two: tuple[bytes, bytes], cuts: tuple[int, ...]) -> None:
    cache = SeriesCache(FAMILY)
    before, page = two
    read(before, cache)
    assert outcome(page, cache, cuts) == outcome(page, SeriesCache(FAMILY), ())


def outcome(page: bytes, cache: SeriesCache, cuts: tuple[int, ...]) -> Found | type[Exception]:
    try:
        return found(read(page, cache, cuts))
    except (BrokenPage, NoFamily) as error:
        return type(error)


@pytest.mark.parametrize(
    "line",
    [
        b' model_calls_total{model_name="indented"} 5\n',
        b'\tmodel_calls_total{model_name="indented"} 5\n',
        b'# HELP model_calls_total of model_calls_total\n model_calls_total{model_name="indented"} 5\n',
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_beside_series_that_are_known_no_other_is_passed_over(line: bytes, first: bool) -> None:
    page, cache = line + ONE if first else ONE + line, SeriesCache(FAMILY)
    read(ONE, cache)
    assert outcome(page, cache, ()) == expected(page) == Found((("indented", 5.0), ("m", 1.0)), ())


def test_a_label_set_as_long_as_the_one_before_is_another() -> None:
    cache = SeriesCache(FAMILY)
    read(ONE + ONE.replace(b'"m"', b'"n"'), cache)
    assert found(read(ONE + ONE.replace(b'"m"', b'"o"'), cache)) == Found((("m", 1.0), ("o", 1.0)), ())


@pytest.mark.parametrize(
    "number", [b"1,2", b"[1]", b"null", b"true", b'"1"', b"1 2", b"1]", b"", b"\n7", b"7\r", b"+7", b"5.", b"1e400"]
)
def test_a_number_is_read_as_of_a_page_not_read_before(number: bytes) -> None:
    cache, other = SeriesCache(FAMILY), ONE.replace(b'"m"', b'"n"')
    page = ONE.replace(b"} 1", b"} " + number) + other
    read(ONE + other, cache)
    assert outcome(page, cache, ()) == outcome(page, SeriesCache(FAMILY), ())


@pytest.mark.parametrize("first", [True, False])
def test_what_stands_beside_series_that_are_known_is_read_too(first: bool) -> None:
    others = b"process_start_time_seconds 5\nprocess_cpu_seconds_total 1\n"
    cache = SeriesCache(FAMILY)
    for _ in range(2):
        page = read_page(others + ONE if first else ONE + others, cache)
        assert (page.started_at, page.heartbeat) == (5.0, Heartbeat.CPU)


def test_comments_about_the_family_do_not_keep_a_page_from_being_followed() -> None:
    page = (
        b"# HELP model_calls_total Calls\n# TYPE model_calls_total counter\n" + ONE + b"other 1\n# model_calls_total\n"
    )
    cache = SeriesCache(FAMILY)
    read(page, cache)
    with patch.object(FamilyReader, "_read") as read_as_if_new:
        assert found(read(page.replace(b"} 1", b"} 7"), cache)) == Found((("m", 7.0),), ())
    assert not read_as_if_new.called


@MANY
@given(page=pages.mutilated_pages(), cuts=CUTS)
def test_a_mutilated_page_is_read_as_prometheus_client_reads_it_or_refused(page: bytes, cuts: tuple[int, ...]) -> None:
    lines = pages.family_lines(page)
    try:
        answer = found(read(page, cuts=cuts))
    except (BrokenPage, NoFamily):
        return
    for line in lines:
        if re.search(rb'[{, \t]model_name="', line):
            expected(line + b"\n")  # a broken line of a model was not passed over
    whole = [line for line in lines if _understood(line)]
    assert answer == expected(b"\n".join(whole) + b"\n")


def _understood(line: bytes) -> bool:
    try:
        expected(line + b"\n")
    except Refused:
        return False
    return True


@MANY
@given(lines=pages.SERIES, junk=st.lists(st.binary(max_size=30), max_size=5), cuts=CUTS)
def test_garbage_of_other_families_never_matters(
    lines: list[tuple[object, str]], junk: list[bytes], cuts: tuple[int, ...]
) -> None:
    page = "".join(line for _, line in lines).encode()
    rubbish = b"".join(b"x" + piece.replace(b"\n", b" ") + b"\n" for piece in junk)
    assert found(read(rubbish + page + rubbish, cuts=cuts)) == expected(page)


@MANY
@given(page=pages.legal_pages(), data=st.data())
def test_a_page_cut_in_the_middle_of_a_line_is_refused(page: bytes, data: st.DataObject) -> None:
    places = [place for place in range(1, len(page)) if page[place - 1] != 0x0A]
    with pytest.raises(BrokenPage, match="middle of a line"):
        read(page[: data.draw(st.sampled_from(places))])


@pytest.mark.parametrize(
    "again",
    [
        b'model_calls_total{model_name="m",zone="a"} 1\n',
        b'model_calls_total{zone="a",model_name="m"} 2\n',
        b'model_calls_total{zone="a",model_name="m",} 1 1700000000000\n',
        b'model_calls_total {model_name="m",zone="a"} NaN\n',
    ],
)
@pytest.mark.parametrize("between", [b"", b"# other families\n" * 10])
def test_a_series_that_stands_twice_is_refused(again: bytes, between: bytes) -> None:
    page = b'model_calls_total{model_name="m",zone="a"} 1\n' + between + again
    for cuts in ((), (50,)):
        with pytest.raises(BrokenPage, match="twice"):
            read(page, cuts=cuts)


@pytest.mark.parametrize("cuts", [(), (len(ONE),)])
def test_a_known_series_that_stands_twice_is_refused(cuts: tuple[int, ...]) -> None:
    cache = SeriesCache(FAMILY)
    read(ONE, cache)
    with pytest.raises(BrokenPage, match="twice"):
        read(ONE + ONE, cache, cuts)


def test_a_series_that_is_added_twice_to_a_page_of_several_shapes_is_refused() -> None:
    mixed = b'model_calls_total{model_name="m",zone="a"} 1\nmodel_calls_total{zone="b",model_name="m"} 1\n'
    cache = SeriesCache(FAMILY)
    read(mixed, cache)
    with pytest.raises(BrokenPage, match="twice"):
        read(mixed + b'model_calls_total{zone="a",model_name="m"} 1\n', cache)


@pytest.mark.parametrize(
    "line",
    [
        b'model_calls_total{model_name="m"} one\n',
        b'model_calls_total{model_name="m"} 1.2.3\n',
        b'model_calls_total{model_name="m"} 1_000\n',
        b'model_calls_total{model_name="m"}\n',
        b'model_calls_total{model_name="m} 1\n',
        b'model_calls_total{model_name="m" 1\n',
        b"model_calls_total{model_name=m} 1\n",
        b'model_calls_total{model_name="m",model_name="n"} 1\n',
        b'model_calls_total{model_name="\xff"} 1\n',
        b'model_calls_total{model_name="m"} 1 yesterday\n',
        b'model_calls_total x{model_name="m"} 1\n',
    ],
)
def test_a_broken_line_of_the_family_refuses_the_page(line: bytes) -> None:
    with pytest.raises(BrokenPage):
        read(ONE.replace(b'"m"', b'"other"') + line)


@pytest.mark.parametrize(
    "line",
    [
        b'model_calls_total{model_name="m"} 1 ' + b"9" * 400 + b"\n",
        b'model_calls_total{model_name="m"}  ' + b"9" * 400 + b"\n",
    ],
    ids=["timestamp", "value"],
)
def test_a_number_too_large_for_a_float_refuses_the_page_or_its_series(line: bytes) -> None:
    try:
        answer = read(line)
    except BrokenPage:
        return
    assert answer.counters == {}


def test_a_blank_before_the_name_does_not_hide_a_series() -> None:
    page = ONE + b' model_calls_total{model_name="indented"} 5\n'
    try:
        answer = found(read(page))
    except BrokenPage:
        return
    assert answer == expected(page) == Found((("indented", 5.0), ("m", 1.0)), ())


def test_a_byte_order_mark_does_not_hide_the_first_series() -> None:
    cache = SeriesCache(FAMILY)
    page = b"\xef\xbb\xbf" + ONE + b'model_calls_total{model_name="other"} 2\n'
    assert [found(read(page, cache)) for _ in range(2)] == [Found((("m", 1.0), ("other", 2.0)), ())] * 2


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\n",
        b"# a comment\n",
        b'model_calls_created{model_name="m"} 1\n',
        b'model_calls_totals{model_name="m"} 1\n',
        b'model_requests_total{model_name="m"} 1\n',
        b"# model_calls_total is gone\n",
        b"# TYPE model_calls_created gauge\n",
    ],
)
def test_a_page_without_the_family_says_so(page: bytes) -> None:
    for cuts in ((), (3, 9)):
        with pytest.raises(NoFamily):
            read(page, cuts=cuts)


@pytest.mark.parametrize(
    "page",
    [
        b"# TYPE model_calls_total counter\n",
        b"# HELP model_calls_total Calls\n",
        b"# TYPE model_calls counter\n",
        b"# HELP x y\n# TYPE model_calls_total counter\nother 1\n",
        b"model_calls_total 5\n",
        b'model_calls_total{zone="a"} 5\n',
    ],
)
def test_a_family_without_series_is_there_and_empty(page: bytes) -> None:
    for cuts in ((), (3, 20)):
        assert found(read(page, cuts=cuts)) == Found((), ())


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "-0.5", "1e400"])
def test_a_value_no_counter_can_have_makes_its_series_unreadable_not_zero(value: str) -> None:
    answer = read(ONE + f'model_calls_total{{model_name="n"}} {value}\n'.encode())
    assert found(answer) == Found((("m", 1.0),), ("n",))
    assert set(answer.names.values()) == {"m", "n"}


@pytest.mark.parametrize("match", [{"zone": "a"}, {"model_name": "m", "zone": "a"}])
def test_no_series_counts_on_a_page_that_lacks_a_match_label(match: dict[str, str]) -> None:
    assert dict(read(ONE, SeriesCache(replace(FAMILY, match=match))).counters) == {}


@MANY
@given(page=pages.legal_pages(), wanted=st.sampled_from(["a", "", "B/"]))
def test_only_series_that_carry_the_match_labels_count(page: bytes, wanted: str) -> None:
    family = Family(METRIC, LABEL, {"zone": wanted})
    carrying = page + f'{METRIC}{{zone="{wanted}",{LABEL}="certainly"}} 1\n'.encode()
    assert found(read(carrying, SeriesCache(family))) == expected(carrying, family)


def test_a_fingerprint_tells_the_settings_apart_that_let_other_series_count() -> None:
    known = Family(METRIC, LABEL, {"zone": "ours", "of": "us"}, Shard(1, 2))
    assert known.fingerprint == Family(METRIC, LABEL, {"of": "us", "zone": "ours"}, Shard(1, 2)).fingerprint
    others = (
        replace(known, metric="calls"),
        replace(known, label="model"),
        replace(known, match={"zone": "ours"}),
        replace(known, match={"zone": "us", "of": "ours"}),
        replace(known, shard=Shard(0, 2)),
        replace(known, shard=Shard(1, 20)),
    )
    assert len({one.fingerprint for one in (known, *others)}) == 1 + len(others)


def test_the_order_of_labels_makes_no_other_series() -> None:
    before = read(b'model_calls_total{model_name="m",zone="a"} 1\n')
    after = read(b'model_calls_total{zone="a",model_name="m"} 1\n')
    assert before.counters == after.counters


@MANY
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=5, unique=True))
def test_different_labels_are_different_series(pairs: list[tuple[str, str]]) -> None:
    keys = {FAMILY.series({LABEL: model, "zone": zone}) for model, zone in pairs}
    assert len(keys) == len(pairs)


@pytest.mark.parametrize(
    ("line", "started"),
    [
        (b"process_start_time_seconds 1.76e+09\n", 1.76e9),
        (b"process_start_time_seconds 1760000000.25\r\n", 1760000000.25),
        (b'process_start_time_seconds{of="another"} 5\n', None),
        (b"a_process_start_time_seconds 5\n", None),
        (b"# TYPE process_start_time_seconds gauge\n", None),
        (b"", None),
    ],
)
def test_the_start_of_the_process_is_read_if_the_page_tells_it(line: bytes, started: float | None) -> None:
    for page in (line + ONE, ONE + line):
        for cuts in ((), (7,), (len(line) + 3, 40)):
            assert read_page(page, cuts=cuts).started_at == started


@pytest.mark.parametrize("value", [b"1e999", b"1e300", b"-1e18", b"1.77e12"])
def test_a_start_time_that_no_calendar_has_does_no_harm_at_the_next_restart(value: bytes) -> None:
    """The last one is what a process says that counts milliseconds; its restart must not stop the ticks for good."""
    try:
        answer = read_page(b"process_start_time_seconds " + value + b"\n" + ONE)
    except BrokenPage:
        return
    now, window = datetime(2026, 3, 2, tzinfo=UTC), timedelta(minutes=5)
    before = ScrapedPage("a", now, answer.calls.counters, answer.calls.names, started_at=1.0)
    after = ScrapedPage("a", now, answer.calls.counters, answer.calls.names, started_at=answer.started_at)
    memory = fold(Memory(), [before], {"m"}, now, window).memory
    fold(memory, [after], {"m"}, now + timedelta(seconds=15), window)


def test_the_cache_forgets_label_sets_that_are_gone() -> None:
    cache = SeriesCache(FAMILY)
    for day in range(20):
        read(b"".join(b'model_calls_total{model_name="%d-%d"} 1\n' % (day, place) for place in range(500)), cache)
        assert len(cache.page.raws) == 500
    assert read(ONE, cache).counters == read(ONE).counters
    assert len(cache.page.raws) == 1


@pytest.mark.parametrize("other", [b'{zone="no model"}', b'{model_name="m",zone="theirs"}'])
def test_a_series_that_does_not_count_may_stand_twice(other: bytes) -> None:
    """It is nobody's calls, and no reason to read nothing at all; whether it has the labels of the others or not."""
    family = Family(METRIC, LABEL, {"zone": "ours"})
    twice, ours = 2 * (b"model_calls_total" + other + b" 13\n"), b'model_calls_total{model_name="m",zone="ours"} 7\n'
    cache = SeriesCache(family)
    for page in (twice + ours, ours + twice, twice + ours + twice):
        assert found(read(page, cache)) == expected(ours, family)
