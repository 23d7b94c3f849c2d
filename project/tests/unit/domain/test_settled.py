"""Models that are settled: a tick need not decide about them, nor, with what the last one left, look at them."""

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.command import Command, CommandState
from limiter.domain.deciding import FleetDecisions, decide_fleet
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.load import Load
from limiter.domain.scaling import decide, scaling_state
from limiter.domain.settled import SETTLED, Settled, settled
from tests.unit.domain.build import SCALING, UNHURRIED, Readings, at, command, page, policy, served

POLICY = policy()
FIVE = Fleet((served(1, "m"), served(2, "n"), served(3, "n"), served(4, "o", 2), served(5, "o")))

COUNTS, MOMENTS = st.integers(0, 4), st.none() | st.integers(0, 60)
STANDINGS = st.sampled_from([None, "hold:within_target", "hold:stabilizing"])


@UNHURRIED
@given(COUNTS, COUNTS, COUNTS, STANDINGS, st.sampled_from(["m", "n"]), MOMENTS, MOMENTS, st.booleans())
def test_what_is_settled_would_be_decided_so(
    replicas: int,
    before: int,
    minimum: int,
    stands: str | None,
    name: str,
    up: int | None,
    down: int | None,
    exempt: bool,
) -> None:
    rule = replace(SCALING, min_replicas=minimum, exempt=exempt)
    since, other = (None if moment is None else at(moment) for moment in (up, down))
    remembered, model = ScalingState(UUID(int=1), name, before, at(0), since, other, stands), served(1, "m", replicas)
    verdict = decide(rule, scaling_state(model, remembered, at(100)), Load(0, 0, True), None, at(100))
    same = verdict == (Decision.HOLD, Reason.WITHIN_TARGET, replicas, remembered) and stands == "hold:within_target"
    assert settled(rule, model, remembered) is same


def quiet_fleet(**changes: Any) -> FleetDecisions:
    """A model at its minimum, known to scaling, that nobody ever called, beside one that is called."""
    readings = Readings(names=frozenset({"m", "n"}))
    readings.tick(0, a={"m": 1.0, "n": 1.0})
    observation = readings.tick(15, a=changes.get("page", {"m": 1.0, "n": 50.0}))
    stood = ScalingState(UUID(int=1), "m", 1, at(0), standing="hold:within_target")
    fleet = Fleet((served(1, "m"), served(2, "n")))
    return decide_fleet(POLICY, fleet, observation, {stood.model_id: stood}, changes.get("latest", {}), at(15))


def test_a_settled_model_is_set_apart_and_still_counted_and_remembered() -> None:
    decisions = quiet_fleet()
    assert decisions.settled == 1
    assert [one.model.name for one in decisions.decided] == ["n"]
    assert decisions.counts() == {(Decision.HOLD, Reason.WITHIN_TARGET): 2}
    assert FleetDecisions(decisions.decided, 0).counts() == {(Decision.HOLD, Reason.WITHIN_TARGET): 1}
    assert FleetDecisions([], 0).counts() == {}
    assert [state.name for state in decisions.scaling_states()] == ["n"]  # of the other nothing changes


@pytest.mark.parametrize(
    "changes",
    [
        {"page": {"m": 2.0, "n": 50.0}},
        {"page": {"m": math.nan, "n": 50.0}},
        {"page": {"m": 1.0, "n": 0.0}},
        {"page": None},
        {"latest": {UUID(int=1): command(CommandState.COMPLETED, 0)}},
    ],
    ids=["called", "unreadable", "restarted", "failed", "commanded"],
)
def test_a_model_that_may_have_been_called_is_not_settled(changes: dict[str, Any]) -> None:
    assert quiet_fleet(**changes).settled == 0


def test_a_settled_model_with_a_request_in_flight_is_decided_about() -> None:
    readings = Readings(frozenset({"m"}))
    readings.tick(0, a={"m": 5.0})
    observation = readings.scraped(15, replace(page(15, {"m": 5.0}), busy=frozenset({"m"})))
    standing = ScalingState(UUID(int=1), "m", 1, at(0), standing=str(SETTLED))
    decisions = decide_fleet(POLICY, Fleet((served(1, "m"),)), observation, {UUID(int=1): standing}, {}, at(15))
    assert (len(decisions.decided), decisions.settled) == (1, 0)


class History:
    """A small fleet, tick after tick, of which something may happen before each: once with what the last tick left."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.readings = Readings(frozenset({"m", "n", "o"}))
        self.fleet = FIVE
        self.counters = dict.fromkeys("mno", 1.0)
        self.states: Mapping[UUID, ScalingState] = {}
        self.latest: dict[UUID, Command] = {}
        self.left: Settled | None = None

    def called(self) -> None:
        self.counters[self.random.choice("mno")] += self.random.choice([1, 200, 2000])

    def restarted(self) -> None:
        self.counters = dict.fromkeys("mno", 0.0)

    def commanded(self) -> None:
        model = self.random.choice(self.fleet.models)
        self.latest[model.id] = replace(command(CommandState.SUBMITTED), model_id=model.id, planned_at=self.now)

    def forgotten(self) -> None:
        self.latest.clear()

    def resized(self) -> None:
        models = [replace(one, replicas=self.random.choice([1, 1, 1, 3])) for one in FIVE.models]
        self.fleet = Fleet(tuple(models[self.random.randrange(2) :]))

    def rewritten(self) -> None:
        """Somebody else wrote the states: another object, and another pressure."""
        self.states = {id: replace(one, overloaded_since=self.now) for id, one in self.states.items()}

    def tick(self, number: int) -> tuple[FleetDecisions, FleetDecisions]:
        """The decisions without and with what the last tick left."""
        self.now = at(15 * number)
        happens = [self.called, self.restarted, self.commanded, self.forgotten, self.resized, self.rewritten]
        if self.random.random() < 0.5:
            self.random.choice(happens)()
        read = {**self.counters, **({"m": math.nan} if self.random.random() < 0.05 else {})}
        observation = self.readings.tick(15 * number, a=None if self.random.random() < 0.05 else read)
        given = (POLICY, self.fleet, observation, self.states, self.latest, self.now)
        whole, quick = decide_fleet(*given), decide_fleet(*given, before=self.left)
        running = {one.id for one in self.fleet.models}
        after = {id: one for id, one in self.states.items() if id in running}
        self.states = after | {one.model_id: one for one in quick.scaling_states()}
        self.left = Settled(POLICY, self.fleet, self.states, quick.unsettled)
        return whole, quick


def words(decisions: FleetDecisions) -> list[tuple[Any, ...]]:
    """What was decided, the reasons worked out."""
    return [
        (one.model, one.verdict, one.record and replace(one.record, numbers=dict(one.record.numbers)))
        for one in decisions.decided
    ]


@UNHURRIED
@given(st.integers(0, 2**32))
def test_with_what_the_last_tick_left_the_same_is_decided(seed: int) -> None:
    history = History(seed)
    for number in range(40):
        whole, quick = history.tick(number)
        assert words(quick) == words(whole)
        assert (quick.settled, quick.unsettled, quick.short) == (whole.settled, whole.unsettled, whole.short)
        assert quick.counts() == whole.counts()


def test_a_tick_looks_at_what_was_not_settled_was_called_or_commanded() -> None:
    left = Settled(POLICY, FIVE, {}, frozenset({"n"}))
    assert [model.id.int for model in left.others(set(), ())] == [2, 3]
    assert [model.id.int for model in left.others({"m", "nobody"}, [UUID(int=9)])] == [1, 2, 3]
    assert [model.id.int for model in left.others(set(), [UUID(int=5)])] == [2, 3, 4, 5]
