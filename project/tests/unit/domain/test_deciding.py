"""One tick over a fleet: the share of a name's traffic, which decisions are new, and the numbers that are recorded."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from limiter.domain.command import Command, CommandKind, CommandState, new_command
from limiter.domain.deciding import ModelDecision, decide_fleet
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.load import Load, Loads
from limiter.domain.policy import Policy
from limiter.domain.scaling import decide
from limiter.domain.scaling_rule import ScalingRule
from tests.unit.domain.build import IDLE, PACING, SCALING, Readings, at, command, page, secs, served

POLICY = Policy(SCALING, IDLE, {}, PACING, enforce_per_run=10, saga_timeout=secs(900), retention=secs(86_400))
TWO = Fleet((served(1, "m", 1), served(2, "m", 3)))


def steady(rps: float, seconds: int = 60) -> Readings:
    readings = Readings()
    for now in range(0, seconds + 1, 15):
        readings.tick(now, a={"m": rps * now})
    return readings


def decided(
    rps: float, fleet: Fleet, rule: ScalingRule = SCALING, **remembered: ScalingState | Command
) -> list[ModelDecision]:
    observation = steady(rps, 45).tick(60, a={"m": rps * 60})
    scaling_states = {one.model_id: one for one in remembered.values() if isinstance(one, ScalingState)}
    latest = {one.model_id: one for one in remembered.values() if isinstance(one, Command)}
    return decide_fleet(replace(POLICY, scaling_rule=rule), fleet, observation, scaling_states, latest, at(60)).decided


def test_instances_share_their_names_traffic_by_their_replicas() -> None:
    readings = steady(8)
    observation = readings.tick(75, a={"m": 8.0 * 75})
    one, three = (Loads(TWO, observation).of(model, SCALING) for model in TWO.models)
    assert (one.up, three.up) == pytest.approx((2, 6))
    assert (one.down, three.down) == pytest.approx((2, 6))
    assert (one.known, one.restarted) == (True, False)


def test_up_and_down_have_windows_of_their_own() -> None:
    readings = Readings()
    for now in range(0, 600, 15):
        readings.tick(now, a={"m": 10.0 * max(0, now - 540)})
    observation = readings.tick(600, a={"m": 600.0})
    load = Loads(Fleet((served(1, "m"),)), observation).of(served(1, "m"), SCALING)
    assert (load.up, load.down) == pytest.approx((10, 2))


def test_a_restart_and_a_failed_target_make_the_load_less_than_known() -> None:
    readings = steady(8)
    restarted = readings.tick(75, a={"m": 1.0})
    assert Loads(Fleet((served(1, "m"),)), restarted).of(served(1, "m"), SCALING).restarted
    failed = readings.tick(90, a=None)
    assert not Loads(Fleet((served(1, "m"),)), failed).of(served(1, "m"), SCALING).known


@pytest.mark.parametrize(
    ("seconds", "calls", "by_calendar", "ends"),
    [(601, 421, False, True), (600, 421, False, False), (601, 420, False, False), (601, 421, True, False)],
)
def test_a_wish_for_fewer_does_not_last_over_a_long_tick_whose_calls_may_all_have_come_last(
    seconds: float, calls: float, by_calendar: bool, ends: bool
) -> None:
    observation = steady(8).tick(60 + seconds, a={"m": 8.0 * 60 + calls})  # 7 RPS for a minute, or for ten a tenth
    rule, fleet = replace(SCALING, by_calendar=by_calendar), Fleet((served(1, "m", 2),))
    assert Loads(fleet, observation).of(fleet.models[0], rule).restarted is ends


@pytest.mark.parametrize(
    ("seconds", "by_calendar", "longest", "outage"),
    [(601, False, 300, True), (600, False, 300, False), (601, True, 300, False), (601, False, 301, False)],
)
def test_a_tick_is_an_outage_if_it_is_twice_as_long_as_all_that_is_waited_for(
    seconds: float, by_calendar: bool, longest: float, outage: bool
) -> None:
    observation = steady(8).tick(60 + seconds, a={"m": 8.0 * 60 + 5000})
    rule, fleet = replace(SCALING, by_calendar=by_calendar, down_stabilization=secs(longest)), Fleet((served(1, "m"),))
    assert Loads(fleet, observation).of(fleet.models[0], rule).after_outage is outage


@pytest.mark.parametrize("calls", [{}, {"m": 5.0}])
def test_a_first_reading_measures_nothing(calls: dict[str, float]) -> None:
    first = Readings(names=frozenset({"m"}))
    fleet = Fleet((served(1, "m"),))
    assert not Loads(fleet, first.tick(0, a=calls)).of(fleet.models[0], SCALING).measured
    assert Loads(fleet, first.tick(15, a=calls)).of(fleet.models[0], SCALING).measured


def test_a_first_reading_measures_nothing_though_one_page_is_read_after_the_other() -> None:
    first, fleet = Readings(names=frozenset({"m"})), Fleet((served(1, "m"),))
    observation = first.scraped(0, page(0, {"m": 5.0}, "a"), page(0.2, {}, "b"))
    assert not Loads(fleet, observation).of(fleet.models[0], SCALING).measured


def test_no_replicas_at_all_share_nothing_and_break_nothing() -> None:
    readings = steady(8)
    observation = readings.tick(75, a={"m": 8.0 * 75})
    nothing = Fleet((served(1, "m", 0),))
    assert Loads(nothing, observation).of(nothing.models[0], SCALING) == Load(0, 0, True)
    (scaled,) = decided(8, nothing)
    assert (scaled.verdict.reason, scaled.verdict.replicas) == (Reason.BELOW_MIN, 1)
    assert scaled.record is not None
    assert scaled.record.numbers["rps_per_replica"] == 0


def test_every_number_of_a_scale_up_is_recorded() -> None:
    wished = ScalingState(UUID(int=1), "m", 1, at(0), overloaded_since=at(29))
    (scaled,) = decided(12, Fleet((served(1, "m"),)), known=wished)
    assert scaled.acts
    assert scaled.record is not None
    assert (scaled.record.at, scaled.record.model_id, scaled.record.model_name) == (at(60), UUID(int=1), "m")
    assert (scaled.record.user_id, scaled.record.decision) == (None, Decision.SCALE_UP)
    assert scaled.record.reason is Reason.OVERLOADED
    assert scaled.record.numbers == {
        "rps": 12,
        "rps_down": 12,
        "rps_per_replica": 12,
        "rps_tick": 12,
        "rps_expected": 12,
        "rps_slope": 0,
        "lead_seconds": 15,
        "burst_factor": 0,
        "replicas": 1,
        "fewer": 0,
        "wanted": 2,
        "target": 10,
        "up_factor": 1.1,
        "headroom": 0.7,
        "minimum": 1,
        "maximum": 8,
        "wish": "up",
        "held_seconds": 31,
        "needed_seconds": 30,
        "failures": 0,
    }


def test_the_numbers_of_a_scale_down_are_those_of_the_wish_to_go_down() -> None:
    wished = ScalingState(UUID(int=1), "m", 2, at(-600), underused_since=at(-250))
    (scaled,) = decided(5, Fleet((served(1, "m", 2),)), known=wished)
    assert scaled.record is not None
    numbers = scaled.record.numbers
    assert (numbers["wish"], numbers["held_seconds"], numbers["needed_seconds"]) == ("down", 310, 300)
    assert (numbers["rps_per_replica"], numbers["replicas"], numbers["fewer"], numbers["wanted"]) == (2.5, 2, 1, 1)


def test_a_wish_that_begins_now_has_held_for_no_time() -> None:
    (scaled,) = decided(12, Fleet((served(1, "m"),)))
    assert scaled.record is not None
    assert (scaled.record.reason, scaled.record.numbers["held_seconds"]) == (Reason.STABILIZING, 0)


def test_a_decision_that_stands_is_no_news_and_is_remembered() -> None:
    fleet = Fleet((served(1, "m"),))
    (first,) = decided(5, fleet)
    assert first.record is not None
    assert not first.acts
    assert first.verdict.scaling_state.standing == "hold:within_target"
    (again,) = decided(5, fleet, known=first.verdict.scaling_state)
    assert again.record is None
    assert again.verdict.scaling_state == first.verdict.scaling_state
    (other,) = decided(5, fleet, known=replace(first.verdict.scaling_state, standing="hold:stabilizing"))
    assert other.record is not None


def test_an_act_is_news_even_if_it_was_the_last_one() -> None:
    wished = ScalingState(UUID(int=1), "m", 1, at(0), overloaded_since=at(0), standing="scale_up:overloaded")
    (scaled,) = decided(12, Fleet((served(1, "m"),)), known=wished)
    assert scaled.record is not None


def test_what_stands_outlives_another_count_of_replicas() -> None:
    before = ScalingState(UUID(int=1), "m", 1, at(0), standing="hold:within_target")
    (scaled,) = decided(12, Fleet((served(1, "m", 2),)), known=before)
    assert scaled.record is None


def test_earlier_failures_are_recorded_and_block() -> None:
    failed = replace(command(CommandState.FAILED, 30, failures=3), model_id=UUID(int=1))
    (scaled,) = decided(12, Fleet((served(1, "m"),)), last=failed)
    assert scaled.record is not None
    assert (scaled.record.reason, scaled.record.numbers["failures"]) == (Reason.BACKING_OFF, 3)


def test_rules_of_a_models_own_decide_about_it() -> None:
    own = replace(POLICY, own_rules={"m": (replace(SCALING, exempt=True), IDLE)})
    observation = steady(12).tick(75, a={"m": 900.0})
    (scaled,) = decide_fleet(own, Fleet((served(1, "m"),)), observation, {}, {}, at(75)).decided
    assert scaled.verdict.reason is Reason.EXEMPT


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_new_command_is_planned_or_in_a_dry_run_already_over(dry_run: bool) -> None:
    id, model = uuid4(), served(1, "m")
    new = new_command(id, model, CommandKind.SCALE_UP, 3, None, at(60), dry_run=dry_run)
    state, ended = (CommandState.DRY_RUN, at(60)) if dry_run else (CommandState.PLANNED, None)
    assert new == Command(id, model.id, "m", CommandKind.SCALE_UP, 3, state, at(60), finished_at=ended, failures=0)


@pytest.mark.parametrize(("state", "carried"), [(CommandState.FAILED, 3), (CommandState.COMPLETED, 0)])
def test_a_new_command_carries_the_failures_of_a_failed_one_before(state: CommandState, carried: int) -> None:
    last = command(state, 30, failures=3)
    assert new_command(uuid4(), served(), CommandKind.SCALE_UP, 3, last, at(60), dry_run=False).failures == carried


def test_one_names_unreadable_series_leaves_the_others_known() -> None:
    readings = Readings(names=frozenset({"m", "n"}))
    readings.tick(0, a={"m": 1.0, "n": 1.0})
    observation = readings.tick(15, a={"m": 2.0, "n": float("nan")})
    fleet = Fleet((served(1, "m"), served(2, "n")))
    assert [Loads(fleet, observation).of(model, SCALING).known for model in fleet.models] == [True, False]


def test_a_wish_that_changes_leaves_what_stands() -> None:
    stood = ScalingState(UUID(int=1), "m", 1, at(0), standing="hold:stabilizing")
    verdict = decide(SCALING, stood, Load(50, 50, True), None, at(60))
    assert (verdict.scaling_state.overloaded_since, verdict.scaling_state.standing) == (at(60), "hold:stabilizing")


def test_no_calls_are_no_load_and_a_restart_shows_all_the_same() -> None:
    readings = Readings(names=frozenset({"m", "n"}))
    readings.tick(0, a={"m": 1.0, "n": 9.0})
    observation = readings.tick(15, a={"m": 1.0, "n": 2.0})
    fleet = Fleet((served(1, "m"),))
    assert Loads(fleet, observation).of(fleet.models[0], SCALING) == Load(0.0, 0.0, True, True)


def test_a_sibling_that_cannot_be_understood_keeps_its_share_and_nobody_of_its_name_is_scaled_down() -> None:
    readings = steady(8)
    observation = readings.tick(75, a={"m": 8.0 * 75})
    known = [ScalingState(UUID(int=2), "m", 3, at(0))]
    fleet = Fleet((served(1, "m", 1),), unreadable=frozenset({UUID(int=2)})).with_last_known(known)
    load = Loads(fleet, observation).of(fleet.models[0], SCALING)
    assert load.up == pytest.approx(2)
    assert not load.known
    decisions = decide_fleet(POLICY, fleet, observation, {known[0].model_id: known[0]}, {}, at(75))
    assert [one.model.id for one in decisions.decided] == [UUID(int=1)]


def test_requests_in_flight_are_told_to_the_decision_whether_there_are_calls_or_not() -> None:
    for rps in (0, 8):
        readings = steady(rps)
        busy = replace(page(75, {"m": rps * 75.0}), busy=frozenset({"m"}))
        observation = readings.scraped(75, busy)
        assert Loads(Fleet((served(1, "m"),)), observation).of(served(1, "m"), SCALING).busy
        assert not Loads(Fleet((served(2, "n"),)), observation).of(served(2, "n"), SCALING).busy


def crowd(*rates: float, most: int) -> list[ModelDecision]:
    """Models of one replica each, overloaded for long, with these calls per second; a run sends `most` commands."""
    names = [f"m{number}" for number in range(len(rates))]
    readings = Readings()
    for now in range(0, 61, 15):
        observation = readings.tick(now, a={name: rate * now for name, rate in zip(names, rates, strict=True)})
    fleet = Fleet(tuple(served(number, name) for number, name in enumerate(names)))
    before = {
        model.id: ScalingState(model.id, model.name, 1, at(0), overloaded_since=at(-100)) for model in fleet.models
    }
    return decide_fleet(replace(POLICY, commands_per_run=most), fleet, observation, before, {}, at(60)).decided


def test_one_run_sends_the_most_overloaded_their_commands_and_the_others_wait_without_losing_their_time() -> None:
    decisions = crowd(12, 30, 5, 20, 25, most=2)
    acting = {one.model.name: one.verdict.reason for one in decisions if one.acts}
    assert acting == {"m1": Reason.OVERLOADED, "m4": Reason.OVERLOADED}
    held = {one.model.name: one.verdict for one in decisions if one.verdict.reason is Reason.COMMANDS_LIMIT}
    assert held.keys() == {"m0", "m3"}
    assert {verdict.scaling_state.overloaded_since for verdict in held.values()} == {at(-100)}
    assert [one.model.name for one in crowd(12, 30, 5, 20, 25, most=4) if one.acts] == ["m0", "m1", "m3", "m4"]


def test_below_the_minimum_comes_before_any_overload() -> None:
    readings = Readings()
    for now in range(0, 61, 15):
        observation = readings.tick(now, a={"m": 1000.0 * now})
    fleet, rule = Fleet((served(1, "m", 2), served(2, "n", 1))), replace(SCALING, min_replicas=2)
    before = {UUID(int=1): ScalingState(UUID(int=1), "m", 2, at(0), overloaded_since=at(0))}
    own = replace(POLICY, scaling_rule=rule, commands_per_run=1)
    (acting,) = [one for one in decide_fleet(own, fleet, observation, before, {}, at(60)).decided if one.acts]
    assert (acting.model.name, acting.verdict.reason) == ("n", Reason.BELOW_MIN)


def test_a_model_rests_and_looks_ahead_by_what_is_known_of_its_own_name() -> None:
    readings = Readings()
    for now in range(0, 301, 15):
        observation = readings.tick(now, a={"m": 5.0 * now + now * now / 100})
    fleet = Fleet((served(1, "m"),))
    rule = replace(SCALING, lead_most=1.5, lead_default=timedelta(seconds=60))
    before = {UUID(int=1): ScalingState(UUID(int=1), "m", 1, at(0), overloaded_since=at(0))}

    def made(**known: float) -> ModelDecision:
        policy = replace(POLICY, scaling_rule=rule)
        return decide_fleet(policy, fleet, observation, before, {}, at(300), known).decided[0]

    unknown, other, own = (made(), made(n=500), made(m=500))
    assert unknown.record is not None
    assert own.record is not None
    assert other == unknown
    assert (unknown.record.numbers["lead_seconds"], own.record.numbers["lead_seconds"]) == (75, 515)
    assert unknown.record.numbers["rps_slope"] == pytest.approx(1.2)  # 0.02 calls per second more in a second
    patient = replace(PACING, cooldown=timedelta(hours=1))
    last = {UUID(int=1): command(CommandState.COMPLETED, 100)}
    resting = replace(POLICY, scaling_rule=rule, own_pacing={"m": patient})
    (held,) = decide_fleet(resting, fleet, observation, before, last, at(300), {"m": 500}).decided
    assert held.verdict.reason is Reason.COOLING_DOWN


def test_without_a_call_in_the_last_tick_the_lead_is_the_saga_alone() -> None:
    readings = steady(8)
    last = readings.tick(75, a={"m": 8.0 * 60})
    assert Loads(Fleet((served(1, "m"),)), last).of(served(1, "m"), SCALING, 40).lead == 40
