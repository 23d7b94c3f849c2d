"""What the names on the pages prove: requests in flight, and absence where names have matched before."""

from dataclasses import replace

import pytest

from limiter.domain.folding import fold
from limiter.domain.usage import ScrapedPage, ScrapeProblem
from tests.unit.domain.build import Readings, at, failed_scrape, page

MISMATCH = [ScrapeProblem.NAMES_MISMATCH]


def flying(now: float, *names: str, value: float = 5) -> ScrapedPage:
    return replace(page(now, {"m": value}), busy=frozenset(names))


def test_a_request_in_flight_is_use_at_that_moment_and_no_call() -> None:
    readings = Readings(frozenset({"m", "n"}))
    readings.scraped(0, flying(0))
    observation = readings.scraped(15, flying(17, "n"))
    assert (readings.used_at("n"), readings.used_at("m")) == (at(17), None)
    assert (observation.busy, readings.calls("n")) == (frozenset({"n"}), 0)
    assert observation.rate("n", readings.window) == 0


def test_a_request_in_flight_is_use_at_the_first_reading_already() -> None:
    readings = Readings()
    readings.scraped(0, flying(0, "m"))
    assert readings.used_at() == at(0)


def test_a_request_in_flight_keeps_the_recent_calls() -> None:
    readings = Readings()
    readings.scraped(0, flying(0))
    readings.scraped(15, flying(15, value=9))
    readings.scraped(30, flying(30, "m", value=9))
    assert (readings.used_at(), readings.calls()) == (at(30), 4)


def test_requests_in_flight_on_a_page_that_is_not_believed_are_no_use() -> None:
    readings = Readings()
    readings.scraped(0, replace(page(0, {"m": 5}, started=-500)))
    observation = readings.scraped(15, replace(page(15, {"m": 5}, started=-9000), busy=frozenset({"m"})))
    assert (readings.used_at(), observation.busy) == (None, frozenset())


# --- a model that nobody calls ---


def test_a_lone_model_that_nobody_ever_called_is_a_mismatch_as_long_as_no_name_ever_matched() -> None:
    readings = Readings()
    for now in (0, 15, 30):
        observation = readings.tick(now, a={"gone": 5})
        assert [reason for reason, _ in observation.problems] == MISMATCH
        assert not observation.known("m")
    assert readings.memory.targets["a"].matched_at is None


@pytest.mark.parametrize("left", [{"gone": 5.0}, {}], ids=["its series stays", "restarted without a series"])
def test_once_any_name_has_matched_absence_proves_no_use(left: dict[str, float]) -> None:
    readings = Readings(frozenset({"m", "gone"}))
    readings.tick(0, a={"gone": 5})
    readings.names = frozenset({"m"})
    observation = readings.tick(15, a=left)
    assert observation.known("m")
    assert observation.problems == ()
    assert readings.used_at() is None


def test_the_last_match_is_remembered_with_its_target() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 1}, b={"other": 1})
    readings.tick(15, a={"m": 1}, b={"m": 1})
    readings.tick(30, a={"other": 1}, b={"m": 1})
    assert {name: target.matched_at for name, target in readings.memory.targets.items()} == {"a": at(15), "b": at(30)}


def test_a_match_on_one_target_is_enough_but_all_must_be_read() -> None:
    readings = Readings(frozenset({"gone"}))
    readings.tick(0, a={"gone": 1}, b={})
    readings.names = frozenset({"m"})
    assert readings.tick(15, a={"gone": 1}, b={}).known("m")
    partial = readings.scraped(30, page(30, {"gone": 1}), failed_scrape("b"))
    assert not partial.known("m")
    assert [reason for reason, _ in partial.problems] == [ScrapeProblem.UNAVAILABLE]


def test_names_that_are_called_and_do_not_run_are_a_mismatch_all_the_same() -> None:
    """After an upgrade of Entrypoint the names may be others: what is called then may be our models."""
    readings = Readings()
    readings.tick(0, a={"m": 5})
    observation = readings.tick(15, a={"renamed": 5})
    assert [reason for reason, _ in observation.problems] == MISMATCH
    readings.tick(30, a={"renamed": 9})
    scrapes = [page(31, {"renamed": 9})]
    assert not fold(readings.memory, scrapes, readings.names, at(31), readings.window, between_ticks=True).known("m")
