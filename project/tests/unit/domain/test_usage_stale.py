"""A page that repeats itself proves nothing: when a target is stale, and that its memory stays as it was."""

from dataclasses import replace

import pytest

from limiter.domain.folding import fold
from limiter.domain.usage import Heartbeat, Observation, ScrapedPage, ScrapeProblem
from tests.unit.domain.build import Readings, at, failed_scrape, page


def written(
    now: float, digest: int | None, value: float = 5, heartbeat: Heartbeat | None = Heartbeat.SCRAPES
) -> ScrapedPage:
    return replace(page(now, {"m": value}), digest=digest, heartbeat=heartbeat)


def between_ticks(readings: Readings, now: float, one: ScrapedPage) -> Observation:
    return fold(readings.memory, [one], readings.names, at(now), readings.window, between_ticks=True)


@pytest.mark.parametrize(
    ("digest", "heartbeat", "stale"),
    [
        (7, Heartbeat.SCRAPES, True),
        (7, Heartbeat.CPU, True),
        (7, None, False),  # a page without a counter of its own may stand still
        (8, Heartbeat.SCRAPES, False),
        (8, Heartbeat.CPU, False),
        (None, Heartbeat.SCRAPES, False),  # a recording of earlier versions has no digest
    ],
)
def test_a_tick_is_stale_if_the_page_is_the_last_again_although_it_has_a_counter_of_its_own(
    digest: int | None, heartbeat: Heartbeat | None, stale: bool
) -> None:
    readings = Readings()
    readings.scraped(0, written(0, None if digest is None else 7, heartbeat=heartbeat))
    observation = readings.scraped(15, written(15, digest, heartbeat=heartbeat))
    assert observation.known("m") is not stale
    assert [reason for reason, _ in observation.problems] == [ScrapeProblem.STALE] * stale
    assert readings.memory.targets["a"].stale is stale


@pytest.mark.parametrize(
    ("heartbeat", "seconds", "stale"),
    [
        (Heartbeat.CPU, [0.1], False),
        (Heartbeat.CPU, [4.9], False),
        (Heartbeat.CPU, [5], True),
        (Heartbeat.CPU, [2, 4], False),
        (Heartbeat.CPU, [2, 4, 6], True),  # however short the ticks are: the time adds up
        (Heartbeat.SCRAPES, [0.1], True),
    ],
)
def test_cpu_time_must_have_moved_only_after_some_seconds(
    heartbeat: Heartbeat, seconds: list[float], stale: bool
) -> None:
    readings = Readings()
    readings.scraped(0, written(0, 6, value=1, heartbeat=heartbeat))
    for now in (0, *seconds):
        observation = readings.scraped(15 + now, written(15 + now, 7, heartbeat=heartbeat))
    assert [reason for reason, _ in observation.problems] == [ScrapeProblem.STALE] * stale
    assert observation.known("m") is not stale
    assert readings.memory.targets["a"].read_at == at(15)


def test_calls_after_a_page_that_came_twice_within_a_moment_are_counted_since_it_came_first() -> None:
    readings = Readings()
    for now in (0, 2):
        readings.scraped(now, written(now, 7, heartbeat=Heartbeat.CPU))
    observation = readings.scraped(15, written(15, 8, value=9, heartbeat=Heartbeat.CPU))
    assert observation.fresh == {"m": {15: 4}}


def test_the_problem_names_the_target_and_since_when() -> None:
    readings = Readings()
    readings.scraped(0, written(0, 7))
    readings.scraped(15, written(15, 7))
    assert readings.scraped(30, written(30, 7)).problems == (
        (ScrapeProblem.STALE, "a: the page is the same to the byte as at 00:00:00"),
    )


def test_a_stale_page_changes_nothing_that_is_remembered_but_that_it_is_stale() -> None:
    readings = Readings()
    readings.scraped(0, written(0, 6, value=1))
    before = readings.scraped(15, written(15, 7)).memory
    after = readings.scraped(30, written(30, 7)).memory
    assert after.targets["a"] == replace(before.targets["a"], stale=True)
    assert after.targets["a"].read_at == at(15)
    assert (after.usage, after.gaps, after.measured_since) == (before.usage, before.gaps, before.measured_since)


def test_calls_behind_a_frozen_page_are_counted_when_it_moves_again() -> None:
    readings = Readings()
    readings.scraped(0, written(0, 7))
    readings.scraped(15, written(15, 7))
    observation = readings.scraped(30, written(30, 8, value=9))
    assert observation.known("m")
    assert (readings.calls(), readings.used_at()) == (4, at(30))
    assert not readings.memory.targets["a"].stale


def test_equal_values_after_a_frozen_page_prove_no_use_across_all_of_it() -> None:
    readings = Readings()
    for now, digest in ((0, 7), (15, 7), (30, 7), (45, 8)):
        observation = readings.scraped(now, written(now, digest))
    assert observation.known("m")
    assert (observation.memory.gaps, readings.used_at()) == ((), None)


def test_a_page_that_repeats_the_one_before_a_failed_reading_is_stale_too() -> None:
    readings = Readings()
    readings.scraped(0, written(0, 7))
    readings.scraped(15, failed_scrape())
    assert not readings.scraped(30, written(30, 7)).complete


def test_one_stale_target_of_two_is_as_good_as_one_that_failed() -> None:
    readings = Readings(frozenset({"m", "n"}))
    other = page(0, {"n": 1}, "b")
    readings.scraped(0, written(0, 7), other)
    observation = readings.scraped(15, written(15, 7), page(15, {"n": 3}, "b"))
    assert not observation.complete
    assert readings.calls("n") == 2


@pytest.mark.parametrize(
    ("heartbeat", "ticks", "stale"),
    [
        (Heartbeat.SCRAPES, [7], True),
        (Heartbeat.CPU, [7], False),  # CPU time may stand still for a moment
        (Heartbeat.CPU, [7, 7], True),
        (Heartbeat.CPU, [7, 7, 8], False),
        (None, [7, 7], False),
    ],
)
def test_a_reading_between_ticks_is_stale_if_the_tick_was_or_if_every_reading_shows_on_the_page(
    heartbeat: Heartbeat | None, ticks: list[int], stale: bool
) -> None:
    readings = Readings()
    for place, digest in enumerate(ticks):
        readings.scraped(15 * place, written(15 * place, digest, heartbeat=heartbeat))
    again = written(60, ticks[-1], heartbeat=heartbeat)
    assert between_ticks(readings, 60, again).known("m") is not stale
    assert between_ticks(readings, 60, replace(again, digest=9)).known("m")
