"""Keeps: whom they cover, until when, and when they ended."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from limiter.domain.keep import Keep, by_model, keep_ended_at, kept
from tests.unit.domain.build import START

ANN, BEN = UUID(int=1), UUID(int=2)
HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
END = START + HOUR


def keep(model: str = "m", user: UUID | None = ANN, until: datetime = END) -> Keep:
    return Keep(model, user, START, until)


@pytest.mark.parametrize(
    ("at", "covers"),
    [(START, True), (END - TICK, True), (END, False), (END + HOUR, False)],
)
def test_a_keep_covers_up_to_its_end_and_not_at_it(at: datetime, covers: bool) -> None:
    assert keep().covers("m", ANN, at) is covers


def test_a_keep_stops_a_run_whose_time_is_a_moment_before_the_keep() -> None:
    assert keep().covers("m", ANN, START - TICK)


@pytest.mark.parametrize(("model", "user", "covers"), [("m", ANN, True), ("m", BEN, False), ("n", ANN, False)])
def test_a_users_keep_covers_that_user_and_model_only(model: str, user: UUID, covers: bool) -> None:
    assert keep().covers(model, user, START) is covers


@pytest.mark.parametrize(("model", "user", "covers"), [("m", ANN, True), ("m", BEN, True), ("n", ANN, False)])
def test_a_keep_for_all_covers_every_user_of_the_model_only(model: str, user: UUID, covers: bool) -> None:
    assert keep(user=None).covers(model, user, START) is covers


def test_kept_if_any_keep_covers() -> None:
    keeps = [keep("n"), keep(user=BEN), keep(until=END), keep(user=None, until=END + HOUR)]
    assert kept(keeps, "m", ANN, END)
    assert not kept(keeps, "m", ANN, END + HOUR)
    assert not kept([], "m", ANN, START)


def test_of_two_keeps_the_later_end_holds() -> None:
    assert kept([keep(until=END + HOUR), keep(until=END)], "m", ANN, END)


def test_the_latest_end_that_is_over_counts_and_none_that_is_to_come() -> None:
    keeps = [keep(until=END - HOUR / 2), keep(user=None, until=END), keep(until=END + HOUR), keep("n", until=END)]
    assert keep_ended_at(keeps, "m", ANN, END + HOUR / 2) == END
    assert keep_ended_at(keeps, "m", ANN, END) == END
    assert keep_ended_at(keeps, "m", ANN, END - TICK) == END - HOUR / 2


@pytest.mark.parametrize("other", [keep(user=BEN), keep("n"), keep(until=END + HOUR)])
def test_no_end_of_a_keep_of_another_user_or_model_or_of_one_in_force(other: Keep) -> None:
    assert keep_ended_at([other], "m", ANN, END) is None


def test_keeps_are_found_by_model() -> None:
    one, two, three = keep(), keep("n"), keep(user=None)
    assert by_model([one, two, three]) == {"m": [one, three], "n": [two]}
