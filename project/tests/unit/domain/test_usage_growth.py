"""What counts as calls: growth, resets, new series, first readings, and readings that failed in between."""

import math
from dataclasses import replace

import pytest

from limiter.domain.usage import Gap, Heartbeat, Observation, ScrapeProblem
from tests.unit.domain.build import Readings, at, page


def test_counts_the_growth_between_two_good_readings() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 100})
    readings.tick(15, a={"m": 130})
    assert readings.calls() == 30
    assert readings.used_at() == at(15)


def test_a_first_reading_of_a_target_is_only_the_baseline() -> None:
    readings = Readings()
    observation = readings.tick(0, a={"m": 1.81e6})
    assert readings.calls() == 0
    assert readings.used_at() is None
    assert observation.complete
    assert observation.memory.measured_since == at(0)


def read_as(readings: Readings, now: float, settings: str | None, **counters: float) -> Observation:
    return readings.scraped(now, replace(page(now, counters), read_as=settings))


@pytest.mark.parametrize("then", [{"m": 1.0, "n": 90_000.0}, {"n": 2.0}, {"m": 0.0}], ids=["more", "others", "less"])
def test_a_target_that_is_read_under_other_settings_is_a_new_one(then: dict[str, float]) -> None:
    readings = Readings()
    read_as(readings, 0, "before", m=0)
    read_as(readings, 15, "before", m=1)
    observation = read_as(readings, 30, "now", **then)
    assert (readings.calls(), readings.calls("n")) == (1, 0)
    assert (observation.memory.gaps, observation.restarts) == ((), ())
    assert observation.memory.measured_since == at(30)
    assert observation.rate("m", readings.window) == 0
    assert observation.restarted  # nothing that lasted until now is known to go on
    observation = read_as(readings, 45, "now", **{name: value + 3 for name, value in then.items()})
    assert all(observation.fresh[name] == {15: 3} for name in then)
    assert not observation.restarted


@pytest.mark.parametrize("gone", [False, True])
def test_a_first_reading_beside_what_was_read_before_ends_what_lasted(gone: bool) -> None:
    readings = Readings()
    assert not readings.tick(0, a={"m": 100}).restarted
    assert not readings.tick(15, a={"m": 130}).restarted
    if gone:  # of the targets that are not configured any more nothing is remembered but their calls
        readings.memory = replace(readings.memory, targets={})
    others = [] if gone else [page(30, {"m": 160.0}, "a")]
    assert readings.scraped(30, *others, page(30, {"m": 900.0}, "b")).restarted
    assert not readings.scraped(45, *others, page(45, {"m": 900.0}, "b")).restarted


@pytest.mark.parametrize(("before", "now"), [(None, "now"), ("before", None), (None, None), ("now", "now")])
def test_a_target_of_which_it_is_not_known_how_it_was_read_is_the_same(before: str | None, now: str | None) -> None:
    readings = Readings()
    read_as(readings, 0, before, m=1)
    observation = read_as(readings, 15, now, m=5)
    assert readings.calls() == 4
    assert observation.memory.measured_since == at(0)
    assert observation.memory.targets["a"].read_as == now


def test_an_old_page_is_no_baseline_under_other_settings_either() -> None:
    readings = Readings()
    old = replace(page(0, {"m": 1}), digest=7, heartbeat=Heartbeat.SCRAPES, read_as="before")
    readings.scraped(0, old)
    observation = readings.scraped(15, replace(old, read_as="now"))
    assert [reason for reason, _ in observation.problems] == [ScrapeProblem.STALE]
    assert readings.memory.targets["a"].read_as == "before"


def test_equal_values_are_no_use() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5})
    readings.tick(15, a={"m": 5})
    assert readings.used_at() is None


def test_one_call_is_use() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 1.81e6})
    readings.tick(15, a={"m": 1.81e6 + 1})
    assert readings.used_at() == at(15)


def test_every_further_call_moves_the_last_use_on() -> None:
    readings = Readings()
    for now, value in ((0, 5), (15, 6), (30, 6), (45, 7), (60, 7)):
        readings.tick(now, a={"m": value})
    assert readings.used_at() == at(45)


def test_the_last_use_is_the_moment_the_page_was_read_if_that_is_later_than_the_tick() -> None:
    readings = Readings()
    readings.scraped(0, page(0, {"m": 5}))
    readings.scraped(15, page(17, {"m": 6}))
    assert readings.used_at() == at(17)


def test_a_series_born_between_two_good_scrapes_counts_in_full() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, a={"n": 5})
    observation = readings.tick(15, a={"n": 5, "m": 3})
    assert readings.calls("m") == 3
    assert readings.used_at("n") is None
    assert not observation.restarted


def test_a_series_born_with_zero_is_no_use() -> None:
    readings = Readings()
    readings.tick(0, a={"n": 5})
    readings.tick(15, a={"n": 5, "m": 0})
    assert readings.used_at() is None


def test_two_series_of_one_name_add_up() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 10, "m#2": 20})
    readings.tick(15, a={"m": 11, "m#2": 25})
    assert readings.calls() == 6


def test_the_calls_of_several_targets_add_up() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 10}, b={"m": 1000})
    readings.tick(15, a={"m": 13}, b={"m": 1004})
    assert readings.calls() == 7


def test_a_new_target_sets_its_baseline_while_the_old_one_counts() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 10})
    observation = readings.tick(15, a={"m": 12}, b={"m": 5000})
    assert readings.calls() == 2
    assert observation.memory.measured_since == at(15)


def test_a_dropped_value_counts_in_full_and_the_time_since_the_last_good_reading_is_a_gap() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 100})
    readings.tick(15, a={"m": 100})
    observation = readings.tick(30, a={"m": 4})
    assert readings.calls() == 4
    assert observation.memory.gaps == (Gap("a", at(15), at(30)),)
    assert observation.restarted


def test_a_drop_to_zero_is_a_gap_without_use() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 100})
    observation = readings.tick(15, a={"m": 0})
    assert readings.used_at() is None
    assert observation.restarted


def test_a_vanished_series_means_that_its_whole_target_restarted() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, a={"m": 3, "n": 7})
    observation = readings.tick(15, a={"n": 8})
    assert observation.memory.gaps == (Gap("a", at(0), at(15)),)
    assert readings.calls("n") == 1  # a value that did not fall is no proof of more calls than it grew by


def test_even_a_vanished_zero_means_a_restart() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, a={"m": 0, "n": 7})
    assert readings.tick(15, a={"n": 7}).restarted


@pytest.mark.parametrize("pages_without", [1, 3])
def test_the_history_of_a_series_that_comes_back_to_the_page_of_its_process_is_use_but_no_calls(
    pages_without: int,
) -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, started=-500, a={"m": 3000, "n": 7})
    for number in range(pages_without):
        readings.tick(15 + 15 * number, started=-500, a={"n": 8})
    back = 15 + 15 * pages_without
    observation = readings.tick(back, started=-500, a={"m": 3002, "n": 9, "x": 0})
    assert (readings.calls("m"), readings.calls("n")) == (0, 2)
    assert (readings.used_at("m"), readings.used_at("x")) == (at(back), None)
    assert observation.rate("m", readings.window) == 0
    readings.tick(back + 15, started=-500, a={"m": 3006, "n": 9, "x": 1})
    assert (readings.calls("m"), readings.calls("x")) == (4, 1)


def test_history_under_another_name_of_the_series_is_no_calls_either() -> None:
    readings = Readings(frozenset({"m"}))
    readings.tick(0, started=-500, a={"m": 3000})
    readings.tick(15, started=-500, a={"m#2": 3001})
    assert (readings.calls("m"), readings.used_at("m")) == (0, at(15))


@pytest.mark.parametrize("started", [None, 12])
def test_what_appears_after_a_restart_or_on_a_page_that_tells_no_start_is_calls(started: float | None) -> None:
    readings = Readings(frozenset({"m", "n"}))
    before = None if started is None else -500
    readings.tick(0, started=before, a={"m": 30, "n": 7})
    readings.tick(15, started=started, a={"n": 1})
    readings.tick(30, started=started, a={"m": 20, "n": 1})
    assert readings.calls("m") == 20


def test_a_restart_of_one_target_leaves_the_counters_of_the_other_alone() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 100}, b={"m": 100})
    observation = readings.tick(15, a={"m": 1}, b={"m": 102})
    assert readings.calls() == 3
    assert observation.memory.gaps == (Gap("a", at(0), at(15)),)


def test_a_later_start_time_is_a_restart_even_if_no_value_dropped() -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": 5})
    observation = readings.tick(60, started=20, a={"m": 9})
    assert readings.calls() == 9
    assert observation.restarted


def test_a_start_time_does_not_narrow_the_gap_for_it_is_by_another_clock() -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": 5})
    observation = readings.tick(60, started=20, a={"m": 2})
    assert observation.memory.gaps == (Gap("a", at(0), at(60)),)


def test_an_unchanged_start_time_does_not_narrow_the_gap_of_a_drop() -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": 5})
    observation = readings.tick(60, started=-500, a={"m": 2})
    assert observation.memory.gaps == (Gap("a", at(0), at(60)),)


def test_a_start_time_in_the_future_does_not_stretch_the_gap() -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": 5})
    observation = readings.tick(60, started=90, a={"m": 2})
    assert observation.memory.gaps == (Gap("a", at(0), at(60)),)


def test_a_start_time_that_appears_for_the_first_time_is_no_restart() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5})
    observation = readings.tick(15, started=-500, a={"m": 5})
    assert not observation.restarted


def test_a_failed_target_makes_the_tick_incomplete_and_keeps_its_memory() -> None:
    readings = Readings()
    before = readings.tick(0, a={"m": 5}, b={"m": 7}).memory
    observation = readings.tick(15, a={"m": 6}, b=None)
    assert not observation.complete
    assert not observation.known("m")
    assert observation.memory.targets["b"] == before.targets["b"]
    assert observation.problems == ((ScrapeProblem.UNAVAILABLE, "b: timed out"),)


def test_calls_during_a_failure_are_counted_when_the_target_is_back() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5})
    for now in (15, 30, 45):
        readings.tick(now, a=None)
    readings.tick(60, a={"m": 8})
    assert readings.calls() == 3
    assert readings.used_at() == at(60)


@pytest.mark.parametrize("outage", [1, 100])
def test_equal_values_around_failed_scrapes_prove_no_use_across_the_whole_outage(outage: int) -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5})
    readings.tick(15, a={"m": 6})
    for tick in range(outage):
        readings.tick(30 + 15 * tick, a=None)
    observation = readings.tick(45 + 15 * outage, a={"m": 6})
    assert readings.used_at() == at(15)
    assert observation.memory.gaps == ()


def test_a_restart_during_an_outage_makes_the_whole_outage_a_gap() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5})
    readings.tick(15, a=None)
    assert readings.tick(900, a={"m": 1}).memory.gaps == (Gap("a", at(0), at(900)),)


def test_gaps_of_earlier_ticks_are_kept() -> None:
    readings = Readings()
    for now, value in ((0, 5), (15, 1), (30, 0)):
        readings.tick(now, a={"m": value})
    assert readings.memory.gaps == (Gap("a", at(0), at(15)), Gap("a", at(15), at(30)))


def test_growth_of_a_series_that_was_unreadable_is_seen_when_it_can_be_read_again() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, a={"m": 5, "n": 1})
    readings.tick(15, a={"m": math.nan, "n": 1})
    observation = readings.tick(30, a={"m": 9, "n": 1})
    assert readings.calls("m") == 4
    assert observation.known("m")
    assert not observation.restarted


def test_a_target_that_left_the_configuration_is_forgotten() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5}, b={"m": 5})
    observation = readings.tick(15, a={"m": 5})
    assert set(observation.memory.targets) == {"a"}
    assert observation.complete


def test_a_target_remembers_which_model_each_series_is_of() -> None:
    readings = Readings(names=frozenset({"m", "n"}))
    readings.tick(0, a={"m": 1, "m#2": 1, "n": math.nan})
    assert readings.memory.targets["a"].names == {"m": "m", "m#2": "m", "n": "n"}


def test_the_rate_of_a_target_is_that_of_all_its_series_together() -> None:
    readings = Readings(names=frozenset({"m", "n"}))
    readings.tick(0, a={"m": 1, "n": 1})
    readings.tick(0.5, a={"m": 2, "n": 3})
    assert readings.memory.targets["a"].rate == 6
    assert readings.tick(0.5, a={"m": 2, "n": 3}).memory.targets["a"].rate == 6


def test_a_reading_from_before_the_last_use_does_not_move_it_back() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 1})
    readings.tick(60, a={"m": 2})
    readings.tick(30, a={"m": 3})
    assert readings.used_at() == at(60)


def test_a_silent_fleet_is_reported_in_words() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 1})
    readings.tick(15, a={"m": 19})
    assert readings.tick(30, a={"m": 19}).problems == (
        (ScrapeProblem.FLEET_SILENT, "every target fell silent at once"),
    )


def test_calls_older_than_the_window_are_forgotten_though_nothing_new_comes() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 1})
    readings.tick(15, a={"m": 9})
    readings.tick(400, a={"m": 9})
    assert readings.memory.usage["m"].samples == ()
    assert readings.used_at() == at(15)
