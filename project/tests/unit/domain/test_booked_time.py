"""Booked time: how long slots cover a stretch of time, and when they will have covered so much more."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.booked_time import booked_time, reached_at
from limiter.domain.reservations import Slot
from limiter.domain.usage import Gap
from tests.unit.domain.build import DAY, HOUR, UNHURRIED, at, secs, slot

FIRST, SECOND = slot(100, 200), slot(300, 400)


def gap(since: float, until: float, target: str = "a") -> Gap:
    return Gap(target, at(since), at(until))


@pytest.mark.parametrize(
    ("since", "until", "booked"),
    [
        (0, 99, 0),
        (0, 100, 0),
        (0, 150, 50),
        (0, 200, 100),
        (0, 250, 100),  # the pause does not count
        (0, 350, 150),
        (0, 1000, 200),
        (150, 350, 100),  # what lies before does not count
        (150, 160, 10),
        (200, 300, 0),
        (400, 1000, 0),
        (350, 350, 0),
        (350, 150, 0),  # the wrong way round: no time at all
    ],
)
def test_only_time_within_a_slot_counts_and_pauses_do_not(since: float, until: float, booked: float) -> None:
    assert booked_time([FIRST, SECOND], at(since), at(until)) == secs(booked)


@pytest.mark.parametrize(
    ("slots", "booked"),
    [
        ([], 0),
        ([slot(100, 200), slot(200, 300)], 200),  # touching
        ([slot(100, 200), slot(150, 300)], 200),  # overlapping
        ([slot(100, 400), slot(150, 200)], 300),  # one within another
        ([slot(100, 200), slot(100, 200, of="r2")], 100),  # twice the same time
        ([slot(300, 400), slot(100, 200)], 200),  # in any order
        ([slot(100, 100)], 0),
    ],
)
def test_time_booked_twice_counts_once(slots: list[Slot], booked: float) -> None:
    assert booked_time(slots, at(0), at(1000)) == secs(booked)


@pytest.mark.parametrize(
    ("gaps", "booked"),
    [
        ([gap(0, 100)], 200),  # nothing was booked then
        ([gap(200, 300)], 200),  # nor in the pause
        ([gap(120, 130)], 190),
        ([gap(150, 350)], 100),  # only what lies in a slot is lost
        ([gap(50, 120)], 180),
        ([gap(120, 140), gap(130, 150, "b")], 170),  # two targets at once count once
        ([gap(120, 130), gap(310, 320)], 180),
        ([gap(0, 1000)], 0),
        ([gap(390, 2000)], 190),
    ],
)
def test_unknown_time_is_lost_only_where_it_is_booked(gaps: list[Gap], booked: float) -> None:
    assert booked_time([FIRST, SECOND], at(0), at(1000), gaps) == secs(booked)


def test_unknown_time_outside_the_stretch_does_not_matter() -> None:
    assert booked_time([FIRST], at(150), at(180), [gap(100, 150), gap(180, 200)]) == secs(30)


def test_an_hour_on_each_of_three_days_is_three_hours() -> None:
    daily = [slot(day * DAY, day * DAY + HOUR) for day in range(3)]
    assert booked_time(daily, at(0), at(3 * DAY)) == secs(3 * HOUR)


@pytest.mark.parametrize(
    ("now", "wanted", "reached"),
    [
        (0, 0, 0),  # it is reached already
        (0, -5, 0),
        (0, 1, 101),
        (0, 100, 200),
        (0, 101, 301),  # the pause is walked over
        (0, 200, 400),
        (150, 50, 200),
        (150, 51, 301),
        (200, 100, 400),
        (250, 1, 301),
        (350, 50, 400),
    ],
)
def test_the_moment_is_found_by_walking_over_the_slots(now: float, wanted: float, reached: float) -> None:
    assert reached_at([FIRST, SECOND], at(now), secs(wanted)) == at(reached)


@pytest.mark.parametrize(("now", "wanted"), [(0, 200.001), (150, 151), (350, 51), (400, 1), (5000, 1)])
def test_slots_that_end_before_never_reach_it(now: float, wanted: float) -> None:
    assert reached_at([FIRST, SECOND], at(now), secs(wanted)) is None


def test_without_slots_nothing_is_reached() -> None:
    assert reached_at([], at(0), secs(1)) is None
    assert reached_at([], at(7), secs(0)) == at(7)


def test_overlapping_slots_are_walked_over_once() -> None:
    assert reached_at([slot(0, 100), slot(50, 150), slot(300, 400)], at(0), secs(160)) == at(310)


SOME = st.integers(0, 60)
SLOTS = st.lists(st.tuples(SOME, SOME).map(sorted).map(lambda two: slot(two[0], two[1])), max_size=5)
GAPS = st.lists(st.tuples(SOME, SOME).map(sorted).map(lambda two: gap(two[0], two[1])), max_size=3)


@UNHURRIED
@given(SLOTS, GAPS, SOME, SOME)
def test_booked_time_is_the_number_of_seconds_within_a_slot_and_no_gap(
    slots: list[Slot], gaps: list[Gap], since: int, until: int
) -> None:
    counted = [
        second
        for second in range(since, until)
        if any(one.covers(at(second)) for one in slots) and not any(one.since <= at(second) < one.until for one in gaps)
    ]
    assert booked_time(slots, at(since), at(until), gaps) == secs(len(counted))


@UNHURRIED
@given(SLOTS, SOME, st.integers(1, 80))
def test_reached_is_the_first_moment_at_which_so_much_is_booked(slots: list[Slot], now: int, wanted: int) -> None:
    found = reached_at(slots, at(now), secs(wanted))
    if found is None:
        assert booked_time(slots, at(now), at(1000)) < secs(wanted)
    else:
        assert booked_time(slots, at(now), found) == secs(wanted)
        assert booked_time(slots, at(now), found - timedelta(microseconds=1)) < secs(wanted)
