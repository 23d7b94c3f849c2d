"""Who gets the replicas that the fleet's budget leaves, and what is told to those who do not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from math import inf
from uuid import UUID

import pytest

from limiter.domain.budget import FLEET, FleetBudget, Wish, granted, not_granted
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.deciding import FleetDecisions, decide_fleet
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from tests.unit.domain.build import IDLE, SCALING, Readings, at, command, policy, served

NOBODY: frozenset[UUID] = frozenset()


def wish(number: int, held: int, wished: int, urgency: float = 1.0, minimum: int = 1, *tags: str) -> Wish:
    return Wish(ServedModel(UUID(int=number), f"m{number}", held, frozenset(tags)), held, minimum, wished, urgency)


def given(budget: FleetBudget, *wishes: Wish, others: int = 0, booked: tuple[int, ...] = ()) -> list[int]:
    rest = [ServedModel(UUID(int=90), "other", others)] if others else []
    return [one.replicas for one in granted(budget, rest, wishes, frozenset(map(UUID, [f"{n:032x}" for n in booked])))]


def test_without_a_budget_every_wish_is_granted() -> None:
    assert FleetBudget().limits == {}
    assert given(FleetBudget(), wish(1, 1, 1000)) == [1000]


def test_what_is_left_goes_to_the_most_overloaded_and_in_part_to_the_next() -> None:
    wishes = wish(1, 1, 4, 2.0), wish(2, 1, 4, 3.0), wish(3, 1, 4, 1.0)
    assert given(FleetBudget(12), *wishes) == [4, 4, 4]
    assert given(FleetBudget(8), *wishes) == [3, 4, 1]
    assert given(FleetBudget(3), *wishes) == [1, 1, 1]


def test_the_booked_come_before_the_more_overloaded_and_minimums_before_both() -> None:
    wishes = wish(1, 1, 4, 2.0), wish(2, 1, 4, 3.0), wish(3, 0, 2, inf, 2)
    assert given(FleetBudget(7), *wishes, booked=(1,)) == [4, 1, 2]
    assert given(FleetBudget(4), *wishes, booked=(1,)) == [1, 1, 2]
    assert given(FleetBudget(3), *wishes, booked=(1,)) == [1, 1, 1]


def test_a_minimum_is_granted_first_and_what_is_wished_above_it_waits_its_turn() -> None:
    assert given(FleetBudget(6), wish(1, 0, 4, 1.0, 2), wish(2, 1, 4, 9.0)) == [2, 4]


def test_what_is_too_little_for_one_minimum_goes_to_another_and_is_else_kept_for_it() -> None:
    large, small, busy = wish(1, 1, 4, inf, 4), wish(2, 1, 2, inf, 2), wish(3, 1, 9, 9.0)
    assert given(FleetBudget(5), large, small, busy) == [2, 2, 1]
    assert given(FleetBudget(4), large, small, busy) == [1, 2, 1]
    assert given(FleetBudget(4), large, busy) == [3, 1]


def test_what_others_have_counts_and_nothing_is_taken_from_a_fleet_that_has_more() -> None:
    assert given(FleetBudget(10), wish(1, 2, 8), others=5) == [5]
    assert given(FleetBudget(10), wish(1, 2, 8), others=9) == [2]
    assert given(FleetBudget(10), wish(1, 5, 8), wish(2, 0, 1), others=20) == [5, 0]


def test_a_model_draws_on_the_budget_of_each_of_its_tags_and_on_that_of_all() -> None:
    budget = FleetBudget(20, {"a100": 4, "eu": 3})
    assert given(budget, wish(1, 1, 9, 1.0, 1, "a100")) == [4]
    assert given(budget, wish(1, 1, 9, 1.0, 1, "a100", "eu")) == [3]
    assert given(budget, wish(1, 1, 9, 1.0, 1, "another")) == [9]
    assert given(budget, wish(1, 1, 9), others=15) == [5]
    assert given(FleetBudget(0, {"a100": 4}), wish(1, 1, 99), wish(2, 4, 5, 1.0, 1, "a100")) == [99, 4]


def test_models_without_the_tag_take_nothing_of_its_budget_whether_they_wish_or_not() -> None:
    budget = FleetBudget(0, {"a100": 4, "l4": 9})
    tagged, untagged, other = wish(1, 1, 4, 1.0, 1, "a100"), wish(2, 2, 90, 9.0), wish(3, 1, 9, 9.0, 1, "l4")
    rest = [ServedModel(UUID(int=90), "other", 50)]
    assert [one.replicas for one in granted(budget, rest, [tagged, untagged, other], NOBODY)] == [4, 90, 9]


def test_a_model_is_told_of_a_budget_that_it_draws_on_however_short_another_is() -> None:
    budget = FleetBudget(0, {"a100": 4, "l4": 1})
    wishes = [wish(1, 1, 9, 1.0, 1, "a100"), wish(2, 6, 9, 1.0, 1, "l4")]
    found = granted(budget, [], wishes, NOBODY)
    assert [(one.replicas, one.full, one.most, one.asked) for one in found] == [(4, "a100", 4, 4), (6, "l4", 1, 6)]
    assert [one.wish for one in found] == wishes


def test_a_model_whose_tags_are_not_known_counts_in_every_budget() -> None:
    lost = ServedModel(UUID(int=9), "lost", 3, None)
    (found,) = granted(FleetBudget(0, {"a100": 4}), [lost], [wish(1, 0, 4, 1.0, 1, "a100")], NOBODY)
    assert (found.replicas, found.full, found.most, found.asked) == (1, "a100", 4, 4)


def test_the_budget_that_leaves_least_is_told() -> None:
    one = wish(1, 1, 9, 1.0, 1, "a100")
    (found,) = granted(FleetBudget(5, {"a100": 8}), [], [one], NOBODY)
    assert (found.replicas, found.full, found.most, found.asked) == (5, FLEET, 5, 5)
    (found,) = granted(FleetBudget(8, {"a100": 5}), [], [one], NOBODY)
    assert (found.full, found.most, found.asked) == ("a100", 5, 5)
    (found,) = granted(FleetBudget(9, {"a100": 9}), [], [one], NOBODY)
    assert (found.wish, found.replicas, found.full) == (one, 9, None)


# --- the fleet's decisions --------------------------------------------------------------------------------------------


def crowd(
    rates: Mapping[str, float],
    budget: FleetBudget,
    booked: frozenset[UUID] = NOBODY,
    latest: Mapping[UUID, Command] | None = None,
    fleet: Fleet | None = None,
    most: int = 50,
) -> FleetDecisions:
    """Models of one replica each, named by letters, overloaded for long at these calls per second."""
    readings = Readings()
    for now in range(0, 61, 15):
        observation = readings.tick(now, a={name: rate * now for name, rate in rates.items()})
    running = fleet or Fleet(tuple(served(number, name) for number, name in enumerate(rates, 1)))
    before = {
        model.id: ScalingState(model.id, model.name, model.replicas, at(0), overloaded_since=at(-100))
        for model in running.models
    }
    rules = policy(budget=budget, commands_per_run=most)
    return decide_fleet(rules, running, observation, before, latest or {}, at(60), None, booked)


def wanted(decisions: FleetDecisions) -> dict[str, int | Reason]:
    return {one.model.name: one.verdict.replicas if one.acts else one.verdict.reason for one in decisions.decided}


RATES = {"a": 25.0, "b": 29.0, "c": 21.0}


def test_the_most_overloaded_is_scaled_and_the_others_are_held_with_what_they_had_waited_for() -> None:
    decisions = crowd(RATES, FleetBudget(5))
    assert wanted(decisions) == {"a": Reason.FLEET_FULL, "b": 3, "c": Reason.FLEET_FULL}
    assert decisions.short
    assert {one.verdict.scaling_state.overloaded_since for one in decisions.decided if not one.acts} == {at(-100)}
    assert wanted(crowd(RATES, FleetBudget(6))) == {"a": 2, "b": 3, "c": Reason.FLEET_FULL}
    assert wanted(crowd(RATES, FleetBudget(9))) == {"a": 3, "b": 3, "c": 3}
    assert not crowd(RATES, FleetBudget(9)).short
    assert not crowd(RATES, FleetBudget()).short


def test_a_booked_model_comes_first() -> None:
    assert wanted(crowd(RATES, FleetBudget(5), frozenset({UUID(int=3)}))) == {
        "a": Reason.FLEET_FULL,
        "b": Reason.FLEET_FULL,
        "c": 3,
    }


def test_what_was_wished_for_granted_and_asked_for_is_recorded_and_told() -> None:
    records = {one.record.model_name: one.record for one in crowd(RATES, FleetBudget(6)).decided if one.record}
    budget = {"wished": 3, "granted": 2, "asked": 6, "budget": 6, "full": "the fleet's"}
    assert records["a"].numbers.items() >= budget.items()
    assert records["a"].why.endswith("1 → 2; 3 wished for, 2 granted: 6 of the fleet's 6 replicas are asked for")
    assert "wished" not in records["b"].numbers
    assert (records["c"].decision, records["c"].reason) == (Decision.HOLD, Reason.FLEET_FULL)
    assert records["c"].why == (
        "21.0 RPS per replica on 1; 3 wished for, 1 granted: 6 of the fleet's 6 replicas are asked for"
    )


def test_a_tags_budget_is_told_by_its_name() -> None:
    tagged = Fleet((ServedModel(UUID(int=1), "a", 1, frozenset({"a100"})),))
    (one,) = crowd({"a": 25.0}, FleetBudget(0, {"a100": 1}), fleet=tagged).decided
    assert one.record is not None
    assert one.record.why.endswith("1 of the a100 budget's 1 replicas are asked for")


def test_a_model_that_this_run_leaves_out_is_told_that_and_nothing_of_the_budget() -> None:
    decisions = crowd(RATES, FleetBudget(8), most=1)
    assert wanted(decisions) == {"a": Reason.COMMANDS_LIMIT, "b": 3, "c": Reason.COMMANDS_LIMIT}
    assert ["wished" in one.record.numbers for one in decisions.decided if one.record] == [False] * 3


@pytest.mark.parametrize(
    ("state", "finished", "counts"),
    [
        (CommandState.PLANNED, None, True),
        (CommandState.SUBMITTED, None, True),
        (CommandState.STUCK, None, True),
        (CommandState.COMPLETED, 1, True),  # the registry may not show it yet
        (CommandState.COMPLETED, 0, False),  # the cooldown of 60 s is over
        (CommandState.FAILED, 30, False),
    ],
)
def test_a_command_that_is_under_way_or_has_just_ended_counts_as_done(
    state: CommandState, finished: float | None, counts: bool
) -> None:
    sent = replace(command(state, finished), model_id=UUID(int=3), replicas=4, model_name="c")
    found = wanted(crowd(RATES, FleetBudget(9), latest={UUID(int=3): sent}))
    assert (found["a"], found["b"]) == ((2, 3) if counts else (3, 3))


def test_what_a_command_has_just_made_is_not_asked_for_again_while_the_registry_does_not_show_it() -> None:
    """A burst does not wait for the cooldown; it does for what is there already."""
    readings, fleet = Readings(), Fleet((served(1, "a"),))
    readings.tick(0, a={"a": 0.0})
    observation = readings.tick(15, a={"a": 15 * 36.0})
    rules = policy(replace(SCALING, burst_factor=2))
    for made, found in ((4, (Decision.HOLD, Reason.COOLING_DOWN)), (3, (Decision.SCALE_UP, Reason.BURST))):
        last = {UUID(int=1): replace(command(CommandState.COMPLETED, 14), model_name="a", replicas=made)}
        (one,) = decide_fleet(rules, fleet, observation, {}, last, at(15)).decided
        assert (one.verdict.decision, one.verdict.reason) == found
        assert one.verdict.replicas == (4 if one.acts else 1)


def test_a_command_down_frees_nothing_before_it_is_seen() -> None:
    down = replace(
        command(CommandState.SUBMITTED), model_id=UUID(int=3), replicas=1, kind=CommandKind.SCALE_DOWN, model_name="c"
    )
    fleet = Fleet((served(1, "a"), served(2, "b"), served(3, "c", 4)))
    assert wanted(crowd(RATES, FleetBudget(6), latest={UUID(int=3): down}, fleet=fleet))["b"] is Reason.FLEET_FULL


@pytest.mark.parametrize("unreadable", [frozenset({UUID(int=3)}), frozenset()])
def test_a_command_up_counts_as_done_though_its_model_is_not_listed_or_cannot_be_read(
    unreadable: frozenset[UUID],
) -> None:
    up = replace(command(CommandState.SUBMITTED), model_id=UUID(int=3), replicas=4, model_name="c")
    fleet = Fleet((served(1, "a"), served(2, "b")), unreadable=unreadable)
    if unreadable:
        fleet = fleet.with_last_known([ScalingState(UUID(int=3), "c", 1, at(0))])
    found = wanted(crowd(RATES, FleetBudget(6), latest={UUID(int=3): up}, fleet=fleet))
    assert found["b"] is Reason.FLEET_FULL


def test_models_that_were_last_known_to_run_count() -> None:
    lost = ScalingState(UUID(int=9), "lost", 4, at(0))
    fleet = Fleet((served(1, "a"),), unreadable=frozenset({UUID(int=9)})).with_last_known([lost])
    assert wanted(crowd({"a": 25.0}, FleetBudget(6), fleet=fleet)) == {"a": 2}


def test_a_model_below_its_minimum_is_held_too_if_nothing_is_left() -> None:
    rules = policy(replace(SCALING, min_replicas=2), budget=FleetBudget(1))
    fleet, observation = Fleet((served(1, "a"),)), Readings().tick(0, a={"a": 0.0})
    (one,) = decide_fleet(rules, fleet, observation, {}, {}, at(0)).decided
    assert one.verdict.reason is Reason.FLEET_FULL


@pytest.mark.parametrize(("most", "found"), [(4, {"b": Reason.FLEET_FULL}), (5, {"b": 3}), (6, {"a": 2, "b": 3})])
def test_less_than_the_minimum_is_never_asked_for_and_what_is_left_is_kept_for_it(
    most: int, found: dict[str, Reason | int]
) -> None:
    own = {"b": (replace(SCALING, min_replicas=3), IDLE)}
    readings = Readings(names=frozenset({"a", "b"}))
    readings.tick(0, a={"a": 0.0})
    observation = readings.tick(15, a={"a": 15 * 36.0})
    rules = replace(policy(replace(SCALING, burst_factor=2), budget=FleetBudget(most)), own_rules=own)
    fleet = Fleet((served(1, "a"), served(2, "b"), served(3, "c")))
    decided = decide_fleet(rules, fleet, observation, {}, {}, at(15)).decided
    acts = {one.model.name: one.verdict.replicas if one.acts else one.verdict.reason for one in decided}
    assert acts == {"a": Reason.FLEET_FULL, "c": Reason.WITHIN_TARGET} | found


@pytest.mark.parametrize(("most", "found"), [(9, Reason.FLEET_FULL), (10, 2), (11, 3)])
def test_an_entry_that_could_never_be_read_counts_as_the_most_a_model_may_have(most: int, found: int | Reason) -> None:
    fleet = Fleet((served(1, "a"),), unreadable=frozenset({UUID(int=9)}))
    assert wanted(crowd({"a": 25.0}, FleetBudget(most), fleet=fleet)) == {"a": found}


@pytest.mark.parametrize(("most", "dropped"), [(8, []), (7, ["b"]), (6, ["a", "b"]), (0, [])])
def test_of_the_scales_up_that_wait_to_be_sent_those_are_named_that_a_smaller_budget_does_not_grant(
    most: int, dropped: list[str]
) -> None:
    up = command(CommandState.PLANNED)
    waiting = [
        replace(up, id=UUID(int=10 + n), model_id=UUID(int=n), model_name=name, replicas=3)
        for n, name in enumerate("ab", 1)
    ]
    under_way = replace(up, model_id=UUID(int=3), state=CommandState.SUBMITTED, replicas=2)
    fleet = Fleet((served(1, "a"), served(2, "b", 2), served(3, "c")))
    found = not_granted(FleetBudget(most), fleet, [under_way, *waiting], waiting, 8)
    assert [one.model_name for one in waiting if one.id in found] == dropped


@pytest.mark.parametrize(("ended", "counts"), [(0, True), (-7200, False)])
def test_what_a_command_made_of_a_model_that_is_not_told_of_counts_as_long_as_the_service_remembers_the_command(
    ended: float, *, counts: bool
) -> None:
    """A replay, which knows every command, would else grant less than the service did."""
    rules = policy()
    made = replace(command(CommandState.COMPLETED, finished=ended, planned=ended), replicas=4)
    fleet = Fleet((), unreadable=frozenset({made.model_id}), last_known=(served(replicas=2),))
    now = at(0) + rules.recent
    assert rules.recent < timedelta(seconds=7200)
    assert rules.unshown(fleet, [made], now) == ([made] if counts else [])
