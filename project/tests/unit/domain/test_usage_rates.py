"""Rates over windows, the merging of samples, and the time that is unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.booked_time import booked_time
from limiter.domain.rates import Sample, mean_rate
from limiter.domain.usage import Gap
from tests.unit.domain.build import UNHURRIED, Readings, at, failed_scrape, page, secs, slot


def steady(rps: float, until: int, every: int, readings: Readings | None = None) -> Readings:
    readings = readings or Readings()
    for now in range(0, until + 1, every):
        readings.tick(now, a={"m": rps * now})
    return readings


# --- pages that are read later than others ---


def test_calls_are_those_of_the_time_between_two_pages_however_late_they_came() -> None:
    readings = Readings()
    readings.scraped(0, page(0, {"m": 0}), page(0, {"m": 0}, "b"))
    late = readings.scraped(15, page(15, {"m": 150}), page(29, {"m": 290}, "b"))
    assert late.fresh == {"m": {15: 150, 29: 290}}
    assert {target.target: target.read_at for target in late.memory.targets.values()} == {"a": at(15), "b": at(29)}
    assert [target.rate for target in late.memory.targets.values()] == [10, 10]
    after = readings.scraped(30, page(30, {"m": 300}), page(30, {"m": 300}, "b"))
    assert after.fresh == {"m": {15: 150, 1: 10}}
    assert readings.calls() == 600


@pytest.mark.parametrize("late", [0, 3, 14])
def test_a_window_ends_when_the_last_page_was_read(late: int) -> None:
    readings = steady(10, 285, 15)
    observation = readings.scraped(300, page(300 + late, {"m": 10 * (300 + late)}))
    assert observation.rate("m", secs(60)) == pytest.approx(10)
    assert observation.measured_for == secs(300 + late)
    assert readings.tick(315, a={"m": 3150}).rate("m", secs(60)) == pytest.approx(10)


def test_pages_that_are_read_side_by_side_share_a_sample_over_the_longest_time_of_them() -> None:
    readings = Readings()
    readings.scraped(0, *(page(0, {"m": 0}, target) for target in "abc"))
    pages = (page(15 + late, {"m": 10}, target) for target, late in {"a": 0.003, "b": 0.5, "c": 5}.items())
    observation = readings.scraped(15, *pages)
    assert observation.fresh == {"m": {15.5: 20, 20: 10}}


def test_calls_on_a_page_that_was_read_before_the_last_by_another_clock_are_counted_over_the_most_it_can_be() -> None:
    readings = Readings()
    readings.scraped(10, page(10, {"m": 0}))
    observation = readings.scraped(6, page(6, {"m": 50}))
    assert observation.fresh == {"m": {10: 50}}
    assert readings.calls() == 50
    assert observation.memory.targets["a"].rate == 5
    assert readings.scraped(11, page(11, {"m": 75})).fresh == {"m": {5: 25}}


def test_a_page_without_calls_that_was_read_before_the_last_by_another_clock_tells_of_no_time() -> None:
    readings = steady(10, 15, 15)
    observation = readings.between_ticks(14.5, a={"m": 150})
    assert observation.complete
    assert observation.problems == ()


def test_a_restart_is_a_gap_until_the_page_was_read() -> None:
    readings = Readings()
    readings.scraped(0, page(0, {"m": 9}))
    observation = readings.scraped(15, page(29, {"m": 1}))
    assert observation.restarts == (Gap("a", at(0), at(29)),)


# --- rates ---


def test_the_rate_of_a_never_called_name_is_zero() -> None:
    assert Readings().tick(0, a={"m": 5}).rate("m", secs(60)) == 0


def test_the_rate_of_steady_calls_is_their_rate_in_every_window() -> None:
    steady_calls = steady(7, 600, 15)
    observation = steady_calls.tick(615, a={"m": 7 * 615})
    assert [observation.rate("m", secs(window)) for window in (15, 60, 100, 300)] == pytest.approx([7, 7, 7, 7])


def test_a_window_longer_than_the_memory_averages_over_what_was_measured() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    observation = readings.tick(20, a={"m": 100})
    assert observation.rate("m", secs(60)) == pytest.approx(5)


def test_a_burst_is_averaged_over_the_window() -> None:
    readings = steady(0, 300, 15)
    observation = readings.tick(315, a={"m": 600})
    assert observation.rate("m", secs(60)) == pytest.approx(10)
    assert observation.rate("m", secs(300)) == pytest.approx(2)


def test_a_target_that_is_new_does_not_shorten_the_window_of_the_others() -> None:
    readings = steady(0, 300, 15)
    observation = readings.tick(315, a={"m": 600}, b={"m": 0})
    assert observation.rate("m", secs(60)) == pytest.approx(10)


def test_a_burst_leaves_the_window_to_the_second() -> None:
    readings = steady(0, 300, 15)
    readings.tick(315, a={"m": 600})
    observation = readings.tick(374, a={"m": 600})
    assert observation.rate("m", secs(60)) == pytest.approx(600 * (1 / 15) / 60)
    assert readings.tick(375, a={"m": 600}).rate("m", secs(60)) == 0


def test_calls_during_an_outage_are_spread_over_the_outage() -> None:
    readings = steady(0, 300, 15)
    observation = readings.tick(900, a={"m": 6000})  # 6000 calls in 600 seconds
    assert observation.rate("m", secs(60)) == pytest.approx(10)
    assert observation.rate("m", secs(300)) == pytest.approx(10)


def test_a_returning_target_adds_its_own_rate_to_the_others() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0}, b={"m": 0})
    for now in range(15, 600, 15):
        readings.tick(now, a={"m": now}, b=None)
    observation = readings.tick(600, a={"m": 600}, b={"m": 1200})
    assert observation.rate("m", secs(60)) == pytest.approx(3)
    assert observation.rate("m", secs(300)) == pytest.approx(3)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_under_fast_ticks_a_returning_target_still_adds_only_its_own_rate(order: str) -> None:
    readings = Readings()
    for now in range(601):
        b_is_up = now in (0, 600)
        scrapes = {"a": page(now, {"m": now}), "b": page(now, {"m": 2 * now}, "b") if b_is_up else failed_scrape("b")}
        observation = readings.scraped(now, *(scrapes[target] for target in order))
    assert observation.rate("m", secs(60)) == pytest.approx(3)


def test_samples_older_than_the_window_are_dropped() -> None:
    readings = steady(7, 3000, 15)
    assert len(readings.memory.usage["m"].samples) == 20


def test_fast_ticks_are_merged_so_that_a_window_never_holds_more_than_120_samples() -> None:
    readings = steady(7, 1200, 1)
    samples = readings.memory.usage["m"].samples
    assert len(samples) <= 120
    assert sum(sample.seconds for sample in samples) == pytest.approx(300, abs=10)


def test_merged_samples_keep_the_rate() -> None:
    readings = steady(7, 1200, 1)
    observation = readings.tick(1201, a={"m": 7 * 1201})
    assert observation.rate("m", secs(60)) == pytest.approx(7)
    assert observation.rate("m", secs(300)) == pytest.approx(7)


def test_a_silent_stretch_is_not_merged_into_a_sample_longer_than_the_resolution() -> None:
    readings = Readings()  # resolution: 300 s / 60 = 5 s
    for now, value in ((0, 0), (1, 4), (2, 4), (3, 4), (4, 4), (5, 8), (7, 8), (11, 9)):
        readings.tick(now, a={"m": value})
    assert readings.memory.usage["m"].samples == (Sample(at(5).timestamp(), 5, 8), Sample(at(11).timestamp(), 4, 1))


def test_a_second_reading_at_the_same_instant_is_use_over_the_most_that_clocks_may_be_apart() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    observation = readings.tick(0, a={"m": 5})
    assert readings.used_at() == at(0)
    assert readings.memory.usage["m"].samples == (Sample(at(0).timestamp(), 10, 5),)
    assert observation.rate("m", secs(60)) == 0  # nothing was measured yet


def test_a_rate_can_be_asked_while_no_configured_target_was_ever_read() -> None:
    readings = Readings()
    readings.tick(0, old={"m": 0})
    readings.tick(15, old={"m": 150})
    observation = readings.tick(30, new=None)  # the only URL was replaced, and its first scrape fails
    assert observation.rate("m", secs(60)) >= 0
    assert not observation.known("m")


def test_a_sample_reaching_out_of_the_window_counts_in_proportion() -> None:
    samples = [Sample(40, 40, 400), Sample(60, 20, 100)]
    assert mean_rate(samples, 60, 30) == pytest.approx((100 + 100) / 30)


@pytest.mark.parametrize("span", [0, -1])
def test_a_window_without_length_has_no_rate(span: float) -> None:
    assert mean_rate([Sample(0, 10, 10)], 0, span) == 0


def gap(since: float, until: float, target: str = "a") -> Gap:
    return Gap(target, at(since), at(until))


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([], 0),
        ([gap(100, 200)], 100),
        ([gap(100, 200), gap(300, 310)], 110),
        ([gap(100, 200), gap(150, 250, "b")], 150),  # overlapping
        ([gap(100, 200), gap(100, 200, "b")], 100),  # the same time on two targets
        ([gap(100, 200), gap(120, 130, "b"), gap(190, 195, "c")], 100),  # nested
        ([gap(100, 200), gap(200, 300, "b")], 200),  # touching
        ([gap(300, 310), gap(100, 200)], 110),  # in any order
        ([gap(-50, 10)], 10),  # reaching in from before
        ([gap(990, 2000)], 10),  # reaching out at the end
        ([gap(-50, 0), gap(1000, 1100)], 0),  # outside
        ([gap(-50, 2000), gap(10, 20)], 1000),
        ([gap(500, 500)], 0),
    ],
)
def test_unknown_time_is_the_union_of_the_gaps_within_the_interval(gaps: list[Gap], expected: int) -> None:
    assert booked_time([slot(0, 1000)], at(0), at(1000), gaps) == secs(1000 - expected)


BORDER = st.integers(-20, 120)


@UNHURRIED
@given(st.lists(st.tuples(BORDER, BORDER).map(sorted), max_size=8))
def test_unknown_time_is_the_number_of_seconds_that_lie_in_any_gap(borders: list[list[int]]) -> None:
    seconds = {second for since, until in borders for second in range(since, until)} & set(range(100))
    gaps = [gap(since, until) for since, until in borders]
    assert booked_time([slot(0, 100)], at(0), at(100), gaps) == secs(100 - len(seconds))
