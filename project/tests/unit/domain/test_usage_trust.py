"""How far a tick can be trusted: unknown is not zero."""

import math

import pytest

from limiter.domain.usage import Memory, ScrapeProblem
from tests.unit.domain.build import Readings, at, secs


def reasons(problems: tuple[tuple[ScrapeProblem, str], ...]) -> list[ScrapeProblem]:
    return [reason for reason, _ in problems]


def test_no_scrape_at_all_is_not_complete() -> None:
    assert not Readings().scraped(0).complete


def test_nothing_is_measured_before_the_first_good_reading() -> None:
    readings = Readings()
    assert Memory().measured_since is None
    readings.tick(0, a=None)
    assert readings.memory.measured_since is None


def test_measured_since_is_the_first_reading_of_the_target_read_last() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 1}, b=None)
    readings.tick(15, a={"m": 1}, b={"m": 1})
    readings.tick(30, a={"m": 1}, b={"m": 1})
    assert readings.memory.measured_since == at(15)


def test_a_series_that_is_not_a_number_is_unknown_and_the_others_are_known() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, a={"m": 5, "n": 1})
    observation = readings.tick(15, a={"m": math.nan, "n": 2})
    assert not observation.known("m")
    assert observation.known("n")
    assert observation.problems == ((ScrapeProblem.SERIES_UNREADABLE, "m"),)
    assert not observation.restarted


def test_one_unreadable_series_makes_its_name_unknown_though_another_series_of_it_is_good() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5, "m#2": 5})
    assert not readings.tick(15, a={"m": 6, "m#2": math.nan}).known("m")


def test_an_unreadable_series_of_one_target_makes_its_name_unknown_for_all() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5}, b={"m": 5})
    assert not readings.tick(15, a={"m": 6}, b={"m": math.nan}).known("m")


def test_absent_names_are_known_unused_if_any_running_name_matches() -> None:
    readings = Readings(frozenset({"m", "silent"}))
    readings.tick(0, a={"m": 5})
    observation = readings.tick(15, a={"m": 6})
    assert observation.known("silent")
    assert observation.rate("silent", secs(60)) == 0
    assert observation.problems == ()


def test_names_are_unknown_if_no_series_matches_any_of_them() -> None:
    readings = Readings(frozenset({"m", "n"}))
    observation = readings.tick(0, a={"another": 5})
    assert not observation.known("m")
    assert not observation.known("n")
    assert observation.problems == ((ScrapeProblem.NAMES_MISMATCH, "no series matches any of 2 running models"),)


def test_a_page_without_any_series_makes_every_name_unknown() -> None:
    observation = Readings().tick(0, a={})
    assert observation.complete
    assert not observation.known("m")


def test_a_match_on_any_target_is_enough() -> None:
    readings = Readings(frozenset({"m", "n"}))
    observation = readings.tick(0, a={"another": 1}, b={"m": 1})
    assert observation.known("m")
    assert observation.known("n")


def test_no_running_model_is_no_mismatch() -> None:
    assert Readings(frozenset()).tick(0, a={"m": 5}).problems == ()


def test_a_failed_scrape_is_no_mismatch() -> None:
    assert reasons(Readings().tick(0, a=None).problems) == [ScrapeProblem.UNAVAILABLE]


def test_a_fleet_that_falls_silent_at_once_is_distrusted_for_exactly_one_tick() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(15, a={"m": 150})
    silent, still_silent = readings.tick(30, a={"m": 150}), readings.tick(45, a={"m": 150})
    assert not silent.known("m")
    assert reasons(silent.problems) == [ScrapeProblem.FLEET_SILENT]
    assert still_silent.known("m")


@pytest.mark.parametrize(("calls", "trusted"), [(11, False), (9, True), (1, True), (0, True)])
def test_a_tick_is_distrusted_if_so_many_calls_were_due_that_none_is_no_chance(calls: float, trusted: bool) -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(10, a={"m": calls})
    assert readings.tick(13, a={"m": calls}).complete is trusted  # of 11, 3.3 were due; of 9, 2.7


def test_a_probe_of_a_quiet_fleet_makes_its_silence_no_less_believed() -> None:
    readings = Readings(frozenset({"m", "probed"}))
    readings.tick(0, a={"m": 1, "probed": 0})
    for minute in range(1, 4):
        readings.tick(60 * minute - 15, a={"m": 1, "probed": minute})
        silent = readings.tick(60 * minute, a={"m": 1, "probed": minute})
        assert silent.problems == ()
        assert silent.known("m")
        assert readings.between_ticks(60 * minute + 1, a={"m": 1, "probed": minute}).known("m")


def test_a_reading_soon_after_a_tick_is_trusted_though_no_call_came_since() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(15, a={"m": 60})  # 4 RPS
    assert readings.between_ticks(17.4, a={"m": 60}).complete  # 9.6 calls were due


def test_a_reading_between_ticks_that_misses_ten_calls_is_distrusted() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(15, a={"m": 60})
    observation = readings.between_ticks(17.5, a={"m": 60})
    assert not observation.known("m")
    assert reasons(observation.problems) == [ScrapeProblem.FLEET_SILENT]


def test_a_reading_after_a_distrusted_tick_is_distrusted_too_until_somebody_calls_or_a_tick_passes() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(15, a={"m": 4})
    readings.tick(30, a={"m": 4})
    assert not readings.between_ticks(31, a={"m": 4}).complete
    assert readings.between_ticks(31, a={"m": 5}).complete
    readings.tick(45, a={"m": 4})
    assert readings.between_ticks(46, a={"m": 4}).complete


def test_a_call_anywhere_shows_that_the_fleet_is_not_silent() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.tick(0, a={"m": 0}, b={"n": 0})
    readings.tick(15, a={"m": 150}, b={"n": 1})
    assert readings.tick(30, a={"m": 150}, b={"n": 2}).known("m")


def test_a_restart_explains_the_silence() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(15, a={"m": 150})
    observation = readings.tick(30, a={"m": 0})
    assert observation.complete
    assert observation.restarted


def test_distrusted_silence_keeps_the_proof_of_no_use() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0})
    readings.tick(15, a={"m": 150})
    observation = readings.tick(30, a={"m": 150})
    assert observation.memory.gaps == ()
    assert readings.used_at() == at(15)
