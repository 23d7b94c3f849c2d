"""Every reason, each reached by a small story that the policy itself decides."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import CommandState
from limiter.domain.decision import Reason
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.idleness import IdleRule
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Reservation
from limiter.domain.scaling import ScalingRule
from limiter.domain.snapshot import Snapshot
from limiter.replay.simulation import Simulation
from tests.unit.domain.build import (
    BORIS,
    HOUR,
    IDLE,
    PACING,
    SCALING,
    at,
    command,
    page,
    reservation,
    secs,
    served,
    slot,
)

MODEL = served(name="m")
BOOKED = reservation(slot(0, 2 * HOUR), slot(2 * HOUR, 3 * HOUR), name="m")
BORIS_NOW = reservation(slot(0, 2 * HOUR, of="r2"), user=BORIS, name="m")
BORIS_SOON = reservation(slot(HOUR + 900, 3 * HOUR, of="r2"), user=BORIS, name="m")
WARN_AT, CANCEL_AT = 2700, 3600


def policy(scaling: ScalingRule = SCALING, idle: IdleRule = IDLE, **more: Any) -> Policy:
    values: dict[str, Any] = {"enforce_per_run": 10, "saga_timeout": secs(900), "retention": secs(7 * 24 * HOUR)} | more
    return Policy(scaling, idle, {}, PACING, **values)


class Story:
    """A simulation of one model, whose counter and bookings the story sets; every decision record is kept."""

    def __init__(self, rules: Policy | None = None, *booked: Reservation, replicas: int = 1) -> None:
        self.simulation = Simulation(rules or policy())
        self.fleet = Fleet((replace(MODEL, replicas=replicas), ServedModel(UUID(int=2), "other", 1)))
        self.bookings = Bookings(booked or (BOOKED,))
        self.calls, self.now = 0.0, 0.0
        self.records: list[DecisionRecord] = []

    def tick(self, now: float, calls: float = 0.0) -> None:
        self.now, self.calls = now, self.calls + calls
        counters = {"m": self.calls, "other": now}
        self.records += self.simulation.tick(at(now), [page(now, counters)], self.fleet)

    def snapshot(self, **replaced: Any) -> Snapshot:
        counters = replaced.get("counters", {"m": self.calls, "other": self.now})
        fleet, bookings = replaced.get("fleet", self.fleet), replaced.get("bookings", self.bookings)
        return self.simulation.snapshot(at(self.now), [page(self.now, counters)], fleet, bookings)

    def warn(self, now: float, *, delivers: bool = True, unaddressed: bool = False, **replaced: Any) -> None:
        self.tick(now)
        snapshot = self.snapshot(**replaced)
        self.records += self.simulation.warn(
            snapshot, snapshot.active_bookings if unaddressed else (), delivers=delivers
        )

    def enforce(self, now: float, **replaced: Any) -> None:
        self.tick(now)
        again = partial(self._again, replaced)
        self.records += self.simulation.enforce(self.snapshot(), again, at(now))

    def _again(self, replaced: dict[str, Any], _: object) -> Snapshot:
        return self.snapshot(**replaced)


def loaded(rps: float, seconds: float, rules: Policy | None = None, replicas: int = 1) -> Story:
    story = Story(rules, replicas=replicas)
    for now in range(0, int(seconds) + 1, 15):
        story.tick(now, rps * 15 if now else 0)
    return story


def commanded(state: CommandState, finished: float | None = None, failures: int = 0) -> Story:
    story = Story()
    story.simulation.commands[MODEL.id] = command(state, finished, failures)
    story.tick(30)
    return story


def warned(rules: Policy | None = None, *booked: Reservation, **how: Any) -> Story:
    story = Story(rules, *booked)
    story.tick(0)
    story.warn(WARN_AT, **how)
    return story


def enforced(*booked: Reservation, fresh: Callable[[Story], dict[str, Any]] | None = None) -> Story:
    story = warned(policy(idle=replace(IDLE, uninstall=True)), BOOKED, *booked)
    story.enforce(CANCEL_AT, **(fresh(story) if fresh else {}))
    return story


def then(story: Story, now: float, **replaced: Any) -> Story:
    story.warn(now, **replaced)
    return story


def used_later() -> Story:
    story = warned()
    story.tick(WARN_AT + 15, calls=1)
    return then(story, WARN_AT + 30)


def run_limit() -> Story:
    story = warned(
        policy(enforce_per_run=1),
        BOOKED,
        reservation(slot(0, 7200, of="r2"), slot(7200, 9000, of="r2"), user=BORIS, name="m"),
    )
    story.enforce(CANCEL_AT)
    return story


def changed_mode() -> Story:
    story = warned()
    story.simulation.policy = policy(dry_run=True)
    return then(story, WARN_AT + 60)


def between() -> Story:
    gap = reservation(slot(0, 1000), slot(1200, 3 * HOUR), name="m")
    return then(Story(None, gap), 1100)


def never_ticked() -> Story:
    story = Story()
    story.records += story.simulation.warn(story.snapshot())
    return story


STORIES: dict[Reason, Callable[[], Story]] = {
    Reason.OVERLOADED: lambda: loaded(12, 60),
    Reason.UNDERUSED: lambda: loaded(1, 600, replicas=2),
    Reason.BELOW_MIN: lambda: loaded(1, 0, policy(replace(SCALING, min_replicas=2))),
    Reason.ABOVE_MAX: lambda: loaded(1, 15, policy(replace(SCALING, max_replicas=2)), replicas=3),
    Reason.WITHIN_TARGET: lambda: loaded(5, 15),
    Reason.STABILIZING: lambda: loaded(12, 15),
    Reason.AT_MAX: lambda: loaded(12, 15, policy(replace(SCALING, max_replicas=1))),
    Reason.COMMAND_UNFINISHED: lambda: commanded(CommandState.SUBMITTED),
    Reason.COOLING_DOWN: lambda: commanded(CommandState.COMPLETED, 0),
    Reason.BACKING_OFF: lambda: commanded(CommandState.FAILED, 0, 1),
    Reason.READING_UNKNOWN: lambda: then(Story(), 15, counters={"m": float("nan"), "other": 15}),
    Reason.EXEMPT: lambda: loaded(50, 15, policy(replace(SCALING, exempt=True))),
    Reason.IN_USE: lambda: then(Story(), 15),
    Reason.UNUSED: warned,
    Reason.NOTHING_TO_CANCEL: lambda: then(Story(None, reservation(slot(0, HOUR), name="m")), 15),
    Reason.NOT_SEEN_RUNNING: never_ticked,
    Reason.BETWEEN_SLOTS: between,
    Reason.BOOKINGS_UNREADABLE: lambda: then(Story(), 15, bookings=Bookings((BOOKED,), frozenset({"m"}))),
    Reason.ADDRESS_UNKNOWN: lambda: warned(unaddressed=True),
    Reason.WARNING_UNDELIVERED: lambda: then(warned(delivers=False), WARN_AT + 60),
    Reason.WARNED_WAITING: lambda: then(warned(), WARN_AT + 60),
    Reason.DEADLINE_PASSED: enforced,
    Reason.USED_AGAIN: used_later,
    Reason.BOOKING_GONE: lambda: then(warned(), WARN_AT + 60, bookings=Bookings(())),
    Reason.MODEL_GONE: lambda: then(warned(), WARN_AT + 60, fleet=Fleet((ServedModel(UUID(int=2), "other", 1),))),
    Reason.RUN_LIMIT: run_limit,
    Reason.HELD_BY_ANOTHER: lambda: enforced(BORIS_NOW),
    Reason.BOOKED_SOON: lambda: enforced(BORIS_SOON),
    Reason.MODE_CHANGED: changed_mode,
}
BY_THE_SERVICE = {Reason.REFUSED: "tests/service/test_decisions.py"}  # only a booking service can refuse


def test_every_reason_is_listed() -> None:
    assert STORIES.keys() | BY_THE_SERVICE.keys() == set(Reason)


@pytest.mark.parametrize("reason", STORIES)
def test_the_story_comes_to_its_reason(reason: Reason) -> None:
    story = STORIES[reason]()
    assert reason in {one.reason for one in story.records}, [(one.decision, one.reason) for one in story.records]
    assert all(one.why for one in story.records)
    assert all(one.at <= at(story.now) for one in story.records)


def test_a_decision_that_stays_is_recorded_once() -> None:
    story = loaded(5, 600)
    assert [one.reason for one in story.records if one.model_id == MODEL.id] == [Reason.WITHIN_TARGET]
    assert isinstance(story.records[0].at, datetime)
