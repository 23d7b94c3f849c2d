"""decide() at its borders, one tick at a time. U = 10, tau = 0.1, h = 0.7: up above 11 R, down from 7 (R - 1)."""

import random
from dataclasses import replace
from math import inf, nextafter
from typing import Any

import pytest

from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import ScalingState
from limiter.domain.load import Load
from limiter.domain.scaling import ScaleDecision, decide, numbers, overloaded, scaling_state, underused
from tests.unit.domain.build import SCALING, at, remembered, secs, served

UP, DOWN, HOLD = Decision.SCALE_UP, Decision.SCALE_DOWN, Decision.HOLD
UNKNOWN_IDLE = Load(0, 0, known=False)


def load(rps: float, *, known: bool = True, restarted: bool = False) -> Load:
    return Load(rps, rps, known, restarted)


def underused_at(replicas: int, since: float, peak: float) -> ScalingState:
    return replace(remembered(replicas, underused_since=since), underused_peak=peak)


def decided(before: ScalingState, rps: Load, now: float, blocked: Reason | None = None) -> ScaleDecision:
    return decide(SCALING, before, rps, blocked, at(now))


@pytest.mark.parametrize("replicas", range(1, 9))
def test_is_overloaded_just_above_the_tolerance_and_not_at_it(replicas: int) -> None:
    border = SCALING.target_rps * (1 + SCALING.tolerance) * replicas
    assert not overloaded(SCALING, replicas, load(border))
    assert overloaded(SCALING, replicas, load(nextafter(border, inf)))


@pytest.mark.parametrize("replicas", range(2, 9))
def test_is_underused_at_the_headroom_and_not_just_above_it(replicas: int) -> None:
    border = SCALING.headroom * SCALING.target_rps * (replicas - 1)
    assert underused(SCALING, replicas, load(border))
    assert not underused(SCALING, replicas, load(nextafter(border, inf)))


def test_one_replica_is_never_underused() -> None:
    assert not underused(SCALING, 1, load(0))


def test_up_goes_by_the_up_window_and_down_by_both() -> None:
    assert overloaded(SCALING, 1, Load(up=12, down=0, known=True))
    assert not overloaded(SCALING, 1, Load(up=0, down=12, known=True))
    assert not underused(SCALING, 2, Load(up=12, down=0, known=True))
    assert not underused(SCALING, 2, Load(up=0, down=12, known=True))


def test_after_an_outage_an_overload_starts_the_clock_anew() -> None:
    before, mean = remembered(1, overloaded_since=100), load(15)._replace(after_outage=True)
    verdict = decided(before, mean, 5000)
    assert (verdict.decision, verdict.reason) == (HOLD, Reason.STABILIZING)
    assert verdict.scaling_state == remembered(1, overloaded_since=5000)
    assert numbers(SCALING, before, mean, verdict, at(5000))["held_seconds"] == 0


def test_the_first_overloaded_tick_only_starts_the_clock() -> None:
    verdict = decided(remembered(1), load(36), 100)
    assert (verdict.decision, verdict.reason) == (HOLD, Reason.STABILIZING)
    assert verdict.scaling_state == remembered(1, overloaded_since=100)


@pytest.mark.parametrize(("now", "decision"), [(29.999, HOLD), (30, UP)])
def test_waits_for_the_up_stabilization_to_the_second(now: float, decision: Decision) -> None:
    assert decided(remembered(1, overloaded_since=0), load(36), now).decision is decision


@pytest.mark.parametrize(("now", "decision"), [(299.999, HOLD), (300, DOWN)])
def test_waits_for_the_down_stabilization_to_the_second(now: float, decision: Decision) -> None:
    assert decided(remembered(2, underused_since=0), load(0), now).decision is decision


@pytest.mark.parametrize(("measured", "decision"), [(False, HOLD), (True, DOWN)])
def test_a_first_reading_which_measures_nothing_scales_nothing_down(measured: bool, decision: Decision) -> None:
    rule = replace(SCALING, down_stabilization=secs(0))
    assert decide(rule, remembered(2), Load(0, 0, True, measured=measured), None, at(0)).decision is decision


def test_a_tick_within_the_tolerance_ends_the_wish_to_go_up() -> None:
    verdict = decided(remembered(1, overloaded_since=0), load(11), 29)
    assert (verdict.reason, verdict.scaling_state) == (Reason.WITHIN_TARGET, remembered(1))


def test_a_tick_above_the_headroom_ends_the_wish_to_go_down() -> None:
    verdict = decided(remembered(2, underused_since=0), load(7.1), 299)
    assert (verdict.reason, verdict.scaling_state) == (Reason.WITHIN_TARGET, remembered(2))


@pytest.mark.parametrize(
    ("replicas", "rps", "wanted"),
    [
        (1, 11.1, 2),  # what the load needs
        (1, 20, 2),
        (1, 20.1, 3),
        (1, 1000, 3),  # R + 2 while that is more than 2 R
        (2, 1000, 4),
        (3, 1000, 6),  # 2 R from there on
        (3, 34, 4),
        (5, 1000, 8),  # the maximum
        (7, 1000, 8),
    ],
)
def test_goes_up_to_what_the_load_needs_at_most_doubling_within_the_maximum(
    replicas: int, rps: float, wanted: int
) -> None:
    verdict = decided(remembered(replicas, overloaded_since=0), load(rps), 30)
    assert (verdict.decision, verdict.reason, verdict.replicas) == (UP, Reason.OVERLOADED, wanted)


def test_a_scale_up_without_tolerance_still_asks_for_more_replicas_than_there_are() -> None:
    # 9.1 * 3 is 27.299999999999997, so 27.3 is overload; yet 27.3 / 9.1 rounds to 3.0, and its ceiling is no more.
    rule = replace(SCALING, target_rps=9.1, tolerance=0)
    verdict = decide(rule, remembered(3, overloaded_since=0), load(27.3), None, at(30))
    assert verdict.decision is HOLD or verdict.replicas > 3


@pytest.mark.parametrize("replicas", range(2, 9))
def test_goes_down_one_step_at_a_time(replicas: int) -> None:
    verdict = decided(remembered(replicas, underused_since=0), load(0), 300)
    assert (verdict.decision, verdict.reason, verdict.replicas) == (DOWN, Reason.UNDERUSED, replicas - 1)


def test_a_command_spends_the_wish() -> None:
    assert decided(remembered(1, overloaded_since=0), load(36), 30).scaling_state == remembered(1)
    assert decided(remembered(2, underused_since=0), load(0), 300).scaling_state == remembered(2)


def test_overloaded_at_the_maximum_holds_and_says_so() -> None:
    verdict = decided(remembered(8, overloaded_since=0), load(1000), 3600)
    assert (verdict.decision, verdict.reason, verdict.replicas) == (HOLD, Reason.AT_MAX, 8)


def test_never_goes_below_the_configured_minimum() -> None:
    rule = replace(SCALING, min_replicas=3)
    verdict = decide(rule, remembered(3, underused_since=0), load(0), None, at(3600))
    assert (verdict.decision, verdict.reason) == (HOLD, Reason.WITHIN_TARGET)


@pytest.mark.parametrize("rps", [load(0), load(1000), UNKNOWN_IDLE])
def test_below_the_minimum_is_corrected_at_once_even_on_an_unknown_reading(rps: Load) -> None:
    verdict = decide(replace(SCALING, min_replicas=3), remembered(1), rps, None, at(0))
    assert (verdict.decision, verdict.reason, verdict.replicas) == (UP, Reason.BELOW_MIN, 3)


def test_a_model_without_replicas_is_brought_to_the_minimum() -> None:
    verdict = decided(remembered(0), load(0), 0)
    assert (verdict.decision, verdict.replicas) == (UP, 1)


@pytest.mark.parametrize("rps", [0, 95, 1000])
def test_above_the_maximum_is_corrected_at_once_in_one_step(rps: float) -> None:
    verdict = decided(remembered(12), load(rps), 0)
    assert (verdict.decision, verdict.reason, verdict.replicas) == (DOWN, Reason.ABOVE_MAX, 8)


@pytest.mark.parametrize("rps", [0, 1000])
def test_above_the_maximum_is_not_corrected_on_an_unknown_reading(rps: float) -> None:
    verdict = decided(remembered(12, overloaded_since=-600, underused_since=-600), load(rps, known=False), 0)
    assert (verdict.decision, verdict.reason) == (HOLD, Reason.READING_UNKNOWN)


def test_does_not_scale_down_on_an_unknown_reading() -> None:
    verdict = decided(remembered(4, underused_since=0), UNKNOWN_IDLE, 3600)
    assert (verdict.decision, verdict.reason) == (HOLD, Reason.READING_UNKNOWN)


def test_an_unknown_reading_neither_starts_nor_ends_the_wish_to_go_down() -> None:
    assert decided(remembered(4), UNKNOWN_IDLE, 15).scaling_state == remembered(4)
    assert decided(remembered(4, underused_since=0), UNKNOWN_IDLE, 15).scaling_state == remembered(4, underused_since=0)


def test_scales_up_on_what_an_incomplete_reading_shows() -> None:
    verdict = decided(remembered(1, overloaded_since=0), load(36, known=False), 30)
    assert (verdict.decision, verdict.replicas) == (UP, 3)


def test_a_restart_of_entrypoint_starts_the_wish_to_go_down_anew() -> None:
    verdict = decided(remembered(4, underused_since=0), load(0, restarted=True), 3600)
    assert (verdict.decision, verdict.scaling_state) == (HOLD, remembered(4))
    assert decided(verdict.scaling_state, load(3), 3615).scaling_state == underused_at(4, 3615, 3)


def test_a_restart_of_entrypoint_does_not_end_the_wish_to_go_up() -> None:
    assert decided(remembered(1, overloaded_since=0), load(36, restarted=True), 30).decision is UP


@pytest.mark.parametrize("reason", [Reason.COMMAND_UNFINISHED, Reason.COOLING_DOWN, Reason.BACKING_OFF])
@pytest.mark.parametrize(("replicas", "rps"), [(1, 36.0), (4, 0.0), (12, 0.0), (0, 0.0), (1, 5.0)])
def test_a_blocked_model_is_held_for_the_reason_of_the_block(reason: Reason, replicas: int, rps: float) -> None:
    verdict = decided(remembered(replicas, overloaded_since=-600, underused_since=-600), load(rps), 0, reason)
    assert (verdict.decision, verdict.reason, verdict.replicas) == (HOLD, reason, replicas)


def test_an_unfinished_command_ends_both_wishes() -> None:
    verdict = decided(remembered(4, overloaded_since=-600, underused_since=-600), load(0), 0, Reason.COMMAND_UNFINISHED)
    assert verdict.scaling_state == remembered(4)


def test_wishes_grow_while_cooling_down_so_that_the_end_of_it_finds_them_ripe() -> None:
    verdict = decided(remembered(1, overloaded_since=0), load(36), 59, Reason.COOLING_DOWN)
    assert verdict.scaling_state == remembered(1, overloaded_since=0)
    assert decided(verdict.scaling_state, load(36), 60).decision is UP


@pytest.mark.parametrize("replicas", [0, 1, 4, 12])
def test_an_exempt_model_is_left_alone_whatever_it_carries(replicas: int) -> None:
    before = remembered(replicas, overloaded_since=0, underused_since=0)
    verdict = decide(replace(SCALING, exempt=True), before, load(1000), None, at(3600))
    assert (verdict.decision, verdict.reason, verdict.scaling_state) == (HOLD, Reason.EXEMPT, remembered(replicas))


def test_a_model_seen_for_the_first_time_runs_since_now() -> None:
    assert scaling_state(served(), None, at(100)).first_seen_at == at(100)


def test_an_unchanged_model_keeps_its_wishes_and_when_it_was_first_seen() -> None:
    before = remembered(1, overloaded_since=5)
    assert scaling_state(served(), before, at(100)) is before


def test_another_replica_count_ends_the_wishes_and_keeps_when_it_was_first_seen() -> None:
    assert scaling_state(
        served(replicas=2), remembered(1, overloaded_since=5, underused_since=6), at(100)
    ) == remembered(2)


def test_another_name_ends_the_wishes() -> None:
    after = scaling_state(served(name="renamed"), remembered(1, overloaded_since=5), at(100))
    assert (after.name, after.overloaded_since, after.first_seen_at) == ("renamed", None, at(0))


def test_an_unchanged_state_is_the_same_value_so_that_nothing_is_written() -> None:
    before = remembered(1)
    assert decided(before, load(5), 15).scaling_state is before
    waiting = remembered(1, overloaded_since=0)
    assert decided(waiting, load(36), 15).scaling_state is waiting


def test_no_stabilization_means_at_once() -> None:
    rule = replace(SCALING, up_stabilization=secs(0), down_stabilization=secs(0))
    assert decide(rule, remembered(1), load(36), None, at(0)).decision is UP
    assert decide(rule, remembered(4), load(0), None, at(0)).decision is DOWN


BUSY = Load(0, 0, known=True, busy=True)


def test_a_model_with_a_request_in_flight_is_not_scaled_down_and_is_as_soon_as_it_has_none() -> None:
    verdict = decided(remembered(3, underused_since=0), BUSY, 400)
    assert (verdict.decision, verdict.reason, verdict.replicas) == (HOLD, Reason.REQUESTS_IN_FLIGHT, 3)
    assert verdict.scaling_state == underused_at(3, 0, 0)
    assert decided(verdict.scaling_state, load(0), 415).decision is DOWN


def test_nor_is_one_above_the_maximum() -> None:
    assert decided(remembered(9), BUSY, 0).decision is HOLD
    assert decided(remembered(9), load(0), 0).decision is DOWN


def test_a_request_in_flight_stops_no_scale_up() -> None:
    assert decided(remembered(1, overloaded_since=0), load(36)._replace(busy=True), 30).decision is UP


AHEAD = replace(SCALING, burst_factor=2, lead_most=1.5, down_step=0, max_replicas=20)


def in_tick(rps: float, seconds: float = 15, up: float = 0, **more: Any) -> Load:
    return Load(up, up, known=True, tick=rps, tick_calls=rps * seconds, **more)


@pytest.mark.parametrize(("rps", "wanted"), [(20, 3), (28, 4), (36, 4), (55, 7), (181, 20), (1000, 20)])
def test_a_burst_goes_up_at_once_to_what_the_tick_needs_and_the_tolerance_beyond_doubling(
    rps: float, wanted: int
) -> None:
    verdict = decide(AHEAD, remembered(1), in_tick(rps), None, at(0))
    assert (verdict.decision, verdict.reason, verdict.replicas) == (UP, Reason.BURST, wanted)


def test_a_large_tolerance_takes_no_more_than_the_headroom() -> None:
    # 20 RPS with a tolerance of 100 % would be 4 replicas, of which one would go again: 7 x 3 = 21 RPS would do.
    assert decide(replace(AHEAD, tolerance=1), remembered(1), in_tick(20), None, at(0)).replicas == 3


def test_a_mean_over_an_outage_is_no_burst() -> None:
    mean = in_tick(55, up=55)._replace(after_outage=True)
    verdict = decide(AHEAD, remembered(1), mean, None, at(0))
    assert (verdict.decision, verdict.reason) == (HOLD, Reason.STABILIZING)
    assert verdict.scaling_state == remembered(1, overloaded_since=0)


def test_less_than_twice_what_is_to_be_carried_is_no_burst_nor_is_anything_without_the_factor() -> None:
    assert decide(AHEAD, remembered(2), in_tick(39.9), None, at(0)).decision is HOLD
    assert decide(AHEAD, remembered(2), in_tick(40), None, at(0)).decision is UP
    assert decide(replace(AHEAD, burst_factor=0), remembered(2), in_tick(400), None, at(0)).decision is HOLD


@pytest.mark.parametrize(("times", "calls"), [(2, 71.5), (4, 21.7), (10, 9.86)])
def test_few_calls_are_no_burst_by_the_bound_of_poisson(times: float, calls: float) -> None:
    for many, decision in ((calls * 0.99, HOLD), (calls * 1.02, UP)):
        load = Load(0, 0, known=True, tick=10 * times, tick_calls=many)
        assert decide(AHEAD, remembered(1), load, None, at(0)).decision is decision


def test_a_burst_does_not_wait_for_the_cooldown_but_for_a_command_and_after_failures() -> None:
    blocks = {Reason.COOLING_DOWN: UP, Reason.COMMAND_UNFINISHED: HOLD, Reason.BACKING_OFF: HOLD}
    for blocked, decision in blocks.items():
        assert decide(AHEAD, remembered(1), in_tick(55), blocked, at(0)).decision is decision


def test_never_down_while_a_burst_lasts() -> None:
    quiet = remembered(4, underused_since=-600)
    verdict = decide(replace(AHEAD, max_replicas=4), quiet, in_tick(90), None, at(0))
    assert (verdict.decision, verdict.reason, verdict.scaling_state) == (HOLD, Reason.AT_MAX, remembered(4))


def test_a_burst_of_what_was_not_read_whole_goes_up_too() -> None:
    assert decide(AHEAD, remembered(1), in_tick(55)._replace(known=False), None, at(0)).decision is UP


def test_growth_goes_up_before_the_overload_to_what_is_expected() -> None:
    growing = Load(38, 30, known=True, slope=0.1, lead=75)
    first = decide(AHEAD, remembered(4), growing, None, at(0))
    assert (first.decision, first.reason) == (HOLD, Reason.STABILIZING)
    then = decide(AHEAD, first.scaling_state, growing, None, at(30))
    assert (then.decision, then.reason, then.replicas) == (UP, Reason.EXPECTED_OVERLOAD, 5)


def test_growth_is_believed_up_to_half_as_much_again_and_without_the_lead_not_at_all() -> None:
    steep = Load(20, 20, known=True, slope=1, lead=600)
    assert decide(AHEAD, remembered(2, overloaded_since=0), steep, None, at(30)).replicas == 3
    assert decide(replace(AHEAD, lead_most=1), remembered(2), steep, None, at(30)).reason is Reason.WITHIN_TARGET


def test_what_is_overloaded_already_goes_to_what_is_expected_too() -> None:
    growing = Load(48, 40, known=True, slope=0.1, lead=75)
    verdict = decide(AHEAD, remembered(4, overloaded_since=0), growing, None, at(30))
    assert (verdict.reason, verdict.replicas) == (Reason.OVERLOADED, 6)


def test_a_fall_expected_is_no_reason_to_go_down() -> None:
    falling = Load(60, 60, known=True, slope=-1, lead=75)
    assert decide(AHEAD, remembered(6), falling, None, at(0)).reason is Reason.WITHIN_TARGET


@pytest.mark.parametrize(("step", "wanted"), [(0, 3), (1, 7), (2, 6), (100, 3)])
def test_down_in_one_command_to_what_the_highest_load_of_the_stabilization_needs(step: int, wanted: int) -> None:
    state, rule = remembered(8), replace(AHEAD, down_step=step)
    for now, rps in ((0, 5), (150, 20), (285, 5)):
        state = decide(rule, state, load(rps), None, at(now)).scaling_state
    verdict = decide(rule, state, load(5), None, at(300))
    assert (verdict.decision, verdict.reason, verdict.replicas) == (DOWN, Reason.UNDERUSED, wanted)


def test_down_to_the_minimum_at_the_least() -> None:
    rule = replace(AHEAD, min_replicas=2)
    assert decide(rule, underused_at(8, 0, 0), load(0), None, at(300)).replicas == 2


def test_an_unknown_tick_keeps_what_was_carried_at_most() -> None:
    state = decide(AHEAD, underused_at(8, 0, 20), Load(0, 0, known=False), None, at(150)).scaling_state
    assert state == underused_at(8, 0, 20)
    assert decide(AHEAD, state, load(5), None, at(300)).replicas == 3


def test_the_fewest_replicas_keep_the_headroom_whatever_the_rounding() -> None:
    dice = random.Random(3)
    for _ in range(20_000):
        rule = replace(SCALING, target_rps=10 ** dice.uniform(-2, 3), headroom=dice.uniform(0.01, 0.999))
        many = dice.randint(1, 60)
        edge = rule.headroom * rule.target_rps * many
        for rps in (edge, nextafter(edge, inf), nextafter(edge, 0), dice.uniform(0, 2 * edge)):
            fewest = rule.fewest(rps)
            assert rps <= rule.headroom * rule.target_rps * fewest
            assert rps > rule.headroom * rule.target_rps * (fewest - 1)
