"""Every reason, each reached by a small story that the policy itself decides."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, time
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from limiter.domain.audit import DecisionRecord
from limiter.domain.budget import FleetBudget
from limiter.domain.command import CommandState
from limiter.domain.decision import Reason
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.idle_spell import StepState
from limiter.domain.keep import Keep
from limiter.domain.policy import Policy
from limiter.domain.quiet_hours import QuietHours
from limiter.domain.reservations import Bookings, Reservation
from limiter.domain.snapshot import Snapshot
from limiter.replay.simulation import Simulation
from tests.unit.domain.build import (
    BORIS,
    HOUR,
    IDLE,
    SCALING,
    at,
    command,
    page,
    policy,
    reservation,
    secs,
    served,
    slot,
)

MODEL = served(name="m")
BOOKED = reservation(slot(0, 2 * HOUR), slot(2 * HOUR, 3 * HOUR), name="m")
HOURLY = reservation(slot(0, HOUR + 60), slot(HOUR + 60, HOUR + 90), slot(2 * HOUR, 3 * HOUR), name="m")
BORIS_NOW = reservation(slot(0, 2 * HOUR, of="r2"), user=BORIS, name="m")
BORIS_SOON = reservation(slot(HOUR + 900, 3 * HOUR, of="r2"), user=BORIS, name="m")
WARN_AT, CANCEL_AT = 2700, 3600


class Story:
    """A simulation of one model, whose counter and bookings the story sets; every decision record is kept."""

    def __init__(self, rules: Policy | None = None, *booked: Reservation, replicas: int = 1) -> None:
        self.simulation = Simulation(rules or policy())
        self.fleet = Fleet((replace(MODEL, replicas=replicas), ServedModel(UUID(int=2), "other", 1)))
        self.bookings = Bookings(booked or (BOOKED,))
        self.calls, self.now = 0.0, 0.0
        self.records: list[DecisionRecord] = []

    def tick(self, now: float, calls: float = 0.0, busy: frozenset[str] = frozenset()) -> None:
        self.now, self.calls = now, self.calls + calls
        read = replace(page(now, {"m": self.calls, "other": now}), busy=busy)
        self.records += self.simulation.tick(at(now), [read], self.fleet)

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
        again = partial(self._read_again, replaced)
        self.records += self.simulation.enforce(self.snapshot(), again, at(now))

    def _read_again(self, replaced: dict[str, Any], _: object) -> Snapshot:
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


def enforced(*booked: Reservation) -> Story:
    story = warned(policy(idle=replace(IDLE, uninstall=True)), *(booked or (BOOKED,)))
    story.enforce(CANCEL_AT)
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


def kept() -> Story:
    story = warned()
    story.simulation.keeps = [Keep("m", None, at(WARN_AT), at(3 * HOUR))]
    return then(story, WARN_AT + 60)


def in_flight() -> Story:
    story = loaded(1, 285, replicas=2)
    for now in range(300, 601, 15):
        story.tick(now, 15, busy=frozenset({"m"}))
    return story


def refused() -> Story:
    story = warned()
    story.simulation.refuses = lambda _: StepState.PLANNED
    story.enforce(CANCEL_AT)
    return story


def late_uninstall() -> Story:
    story = enforced()
    story.enforce(CANCEL_AT + 120)
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


def growing() -> Story:
    """From 2 calls per second upwards by 4 a minute, on one replica that should carry 10."""
    story = Story(policy(replace(SCALING, lead_most=1.5, lead_default=secs(60))))
    for now in range(0, 301, 15):
        story.tick(now, (2 + now / 15) * 15 / 2 if now else 0)
    return story


def crowded() -> Story:
    story = Story(policy(replace(SCALING, min_replicas=2), commands_per_run=1))
    story.tick(0)
    return story


def short_of_replicas() -> Story:
    story = Story(policy(budget=FleetBudget(most=2)))
    for now in range(0, 61, 15):
        story.tick(now, 12 * 15 if now else 0)
    return story


STORIES: dict[Reason, Callable[[], Story]] = {
    Reason.OVERLOADED: lambda: loaded(12, 60),
    Reason.EXPECTED_OVERLOAD: growing,
    Reason.BURST: lambda: loaded(50, 15, policy(replace(SCALING, burst_factor=2))),
    Reason.COMMANDS_LIMIT: crowded,
    Reason.FLEET_FULL: short_of_replicas,
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
    Reason.NOTHING_TO_CANCEL: lambda: warned(None, reservation(slot(0, 2 * HOUR), name="m")),
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
    Reason.HELD_BY_ANOTHER: lambda: enforced(BOOKED, BORIS_NOW),
    Reason.BOOKED_SOON: lambda: enforced(BOOKED, BORIS_SOON),
    Reason.KEEPS_SLOT: lambda: enforced(HOURLY),
    Reason.KEPT: kept,
    Reason.QUIET_HOURS: lambda: warned(policy(idle=replace(IDLE, quiet=QuietHours(time(0, 30), time(1))))),
    Reason.REFUSED: refused,
    Reason.REQUESTS_IN_FLIGHT: in_flight,
    Reason.UNINSTALL_LATE: late_uninstall,
    Reason.MODE_CHANGED: changed_mode,
}
BY_THE_SERVICE = {  # what a person, many bookings at once, or a lost answer brings about
    Reason.BY_OPERATOR: "tests/service/test_operator_commands.py",
    Reason.SURGE: "tests/service/test_warning_rules.py",
    Reason.DELETE_IN_FLIGHT: "tests/service/test_interleavings.py",
}


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
