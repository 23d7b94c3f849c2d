"""What one model carries and is about to carry, from the counters."""

from dataclasses import replace
from datetime import timedelta
from math import sqrt

import pytest

from limiter.domain.fleet import Fleet
from limiter.domain.load import Loads, last_tick
from limiter.domain.usage import Observation
from tests.unit.domain.build import SCALING, Readings, secs, served

RULE = replace(SCALING, lead_most=1.5, burst_window=secs(7.5))  # its slope is between two windows of 120 s


def counted(rates: list[float], tick: int = 15) -> Observation:
    """One tick after the other with these calls per second, from the first reading on."""
    readings, calls = Readings(), 0.0
    observation = readings.tick(0, a={"m": calls})
    for number, rate in enumerate(rates, 1):
        calls += rate * tick
        observation = readings.tick(number * tick, a={"m": calls})
    return observation


def slope(observation: Observation) -> float:
    return Loads(Fleet((served(1, "m"),)), observation).of(served(1, "m"), RULE).slope


def test_the_last_tick_is_alone() -> None:
    assert last_tick(counted([10, 10, 40]), "m") == (40, 600)
    assert last_tick(counted([10, 10, 0]), "m") == (0, 0)
    assert last_tick(counted([10]), "nobody") == (0, 0)


def test_the_last_tick_may_be_short_and_by_the_clock_of_no_time_at_all() -> None:
    assert last_tick(counted([10, 10], tick=1), "m") == (10, 10)
    readings = Readings()
    readings.tick(0, a={"m": 0.0})
    assert last_tick(readings.tick(0, a={"m": 5.0}), "m") == (0.5, 5)


def test_the_last_tick_of_two_processes_is_their_sum_each_over_its_own_time() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 0.0}, b={"m": 0.0})
    readings.tick(15, a={"m": 150.0}, b=None)
    assert last_tick(readings.tick(30, a={"m": 300.0}, b={"m": 600.0}), "m") == (30, 750)


@pytest.mark.parametrize(("second", "rate"), [(46, 185 / 7.5), (52, 185 / 7.5), (53, 190 / 8), (60, 260 / 15)])
def test_calls_that_come_together_are_no_burst_for_a_tick_that_is_short(second: int, rate: float) -> None:
    readings = Readings()
    for now in (0, 15, 30, 45):
        readings.tick(now, a={"m": 10.0 * now})
    observation = readings.tick(second, a={"m": 10.0 * second + 120 - 10})
    load = Loads(Fleet((served(1, "m"),)), observation).of(served(1, "m"), RULE)
    assert load.tick == pytest.approx(rate)


def test_growth_is_the_slope_between_two_windows() -> None:
    growing = counted([20 + number for number in range(16)])
    assert slope(growing) == pytest.approx(1 / 15)


def test_calls_that_were_lost_in_a_restart_are_no_growth() -> None:
    readings, counter, started = Readings(), 0.0, 1.0
    for now in range(0, 840, 15):
        observation = readings.tick(now, started, a={"m": counter})
        assert slope(observation) == 0, now
        counter += 78 * 15
        if 420 <= now < 480:  # four restarts in turn, each of which loses what came since the last reading
            counter, started = 0.0, now + 15.0


@pytest.mark.parametrize("seconds", [225, 240])
def test_no_growth_is_seen_before_two_windows_are_measured(seconds: int) -> None:
    observation = counted([20 + number for number in range(seconds // 15)])
    assert (slope(observation) > 0) is (seconds == 240)


def test_growth_of_less_than_two_deviations_may_be_chance() -> None:
    # 8 ticks of 15 s a window: 120 a + 120 b calls, of which b must be more than 2 sqrt(all) ahead.
    before = 10.0
    edge = next(
        after / 100
        for after in range(1000, 2000)
        if 120 * (after / 100 - before) > 2 * sqrt(120 * (after / 100 + before))
    )
    for after, grows in ((edge - 0.02, False), (edge + 0.02, True)):
        ramp = [before] * 8 + [after] * 8
        assert (slope(counted(ramp)) > 0) is grows


def test_a_fall_is_no_growth() -> None:
    assert slope(counted([40.0 - number for number in range(16)])) == 0


def test_growth_that_is_over_counts_no_further_than_its_noise() -> None:
    step = counted([8.0] * 8 + [55.0] * 8)
    whole, noise = (55 - 8) / 120, sqrt(2 * 60 * 55) / 60**2
    assert whole > 10 * noise
    assert slope(step) == pytest.approx(noise)


def test_the_lead_is_the_usual_time_of_the_models_own_sagas_and_one_tick() -> None:
    observation, fleet = counted([20.0 + number for number in range(16)]), Fleet((served(1, "m", 2), served(2, "m", 2)))
    rule = replace(SCALING, lead_most=1.5, lead_default=timedelta(seconds=60))
    unknown, known = (Loads(fleet, observation).of(fleet.models[0], rule, took) for took in (None, 41.5))
    assert (unknown.lead, known.lead) == (75, 56.5)
    assert known.slope == pytest.approx(1 / 30)
    assert (known.tick, known.tick_calls) == (17.5, 262.5)
    assert Loads(fleet, observation).of(fleet.models[0], SCALING, 41.5).slope == 0


def test_what_is_expected_lies_between_what_is_and_half_as_much_again() -> None:
    load = Loads(Fleet((served(1, "m"),)), counted([20.0])).of(served(1, "m"), SCALING)
    for growth, expected in ((0.1, 24), (1, 30), (-1, 20)):
        assert load._replace(slope=growth, lead=40).expected(1.5) == pytest.approx(expected)
