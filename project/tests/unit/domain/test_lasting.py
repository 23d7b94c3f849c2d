"""Verdicts that last are what a fresh judgement would find, and are not judged again before they may change."""

from dataclasses import dataclass, field, replace
from math import nan
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.keep import Keep
from limiter.domain.lasting import LastingVerdicts
from limiter.domain.reservations import Bookings, UnbookingMode
from limiter.domain.snapshot import PriorState, Snapshot, take_snapshot
from limiter.effects.verdicts import Verdicts
from tests.unit.domain.build import (
    ANNA,
    BORIS,
    HOUR,
    IDLE,
    MINUTE,
    UNHURRIED,
    Readings,
    at,
    failed_scrape,
    page,
    policy,
    reservation,
    secs,
    served,
    slot,
    spell,
    steps,
)

M, OTHER = served(1, "m"), served(2, "other")
ANNAS = reservation(slot(0, HOUR), slot(HOUR, 3 * HOUR), slot(3 * HOUR + 4 * MINUTE, 6 * HOUR), name="m")
BORISS = reservation(slot(2 * HOUR, 4 * HOUR, of="r2"), user=BORIS, name="m", id="r2")
KEY = (M.id, ANNA.id)


@dataclass
class Timeline:
    """A platform that goes on from snapshot to snapshot; every tick is one snapshot too."""

    mode: UnbookingMode = UnbookingMode.IN_ROW
    now: float = 0.0
    calls: float = 1.0
    first_seen: float = 0.0
    readings: Readings = field(default_factory=lambda: Readings(names=frozenset({"m", "other"})))
    started: float = -HOUR
    booked: tuple[Any, ...] = (ANNAS, BORISS)
    unreadable: frozenset[str] = frozenset()
    fleet: Fleet = field(default_factory=lambda: Fleet((M, OTHER)))
    keeps: tuple[Keep, ...] = ()
    spelled: bool = False
    closed: dict[Any, Any] = field(default_factory=dict)
    resumed: float | None = None

    def __post_init__(self) -> None:
        self.rules = policy(idle=replace(IDLE, mode=self.mode))
        self.snapshot()

    def snapshot(self, failed: bool = False) -> Snapshot:
        counters = {"m": self.calls, "other": self.now}
        scrape = failed_scrape() if failed else page(self.now, counters, started=self.started)
        before = self.readings.memory
        self.readings.scraped(self.now, scrape)
        state = ScalingState(M.id, "m", 1, at(self.first_seen))
        spells = {}
        if self.spelled:
            spells = {KEY: replace(spell(0, not_before=9 * HOUR, steps=steps(ANNAS.slots[2])), model_name="m")}
        resumed = None if self.resumed is None else at(self.resumed)
        prior = PriorState({M.id: state}, spells, dict(self.closed), {}, resumed, self.keeps)
        bookings = Bookings(self.booked, self.unreadable)
        return take_snapshot(self.rules, self.fleet, bookings, [scrape], before, prior, at(self.now))

    def step(self, minutes: float, happens: str) -> Snapshot:
        self.now += minutes * MINUTE
        match happens:
            case "called":
                self.calls += 1
            case "restarted":
                self.started, self.calls = self.now - 1, 0.0
            case "gap cleaned up":
                self.readings.memory = replace(self.readings.memory, gaps=())
            case "kept":
                self.keeps += (Keep("m", ANNA.id, at(self.now), at(self.now + 20 * MINUTE)),)
            case "keep cleaned up":
                self.keeps = ()
            case "closed":
                self.closed[KEY] = at(self.now)
            case "warned":
                self.spelled = not self.spelled
            case "resumed":
                self.resumed = self.now
            case "database put back":
                self.resumed, self.first_seen = None, 0.0
                self.closed.clear()
            case "unreadable":
                self.unreadable ^= {"m"}
            case "booked":
                more = reservation(slot(self.now, self.now + 30 * MINUTE, of="r3"), name="m", id="r3")
                self.booked = (ANNAS, BORISS, more)
            case "cancelled":
                self.booked = (BORISS, replace(ANNAS, slots=ANNAS.slots[1:]))
            case "gone":
                self.fleet = Fleet((OTHER,))
            case "last known":
                self.fleet = Fleet((OTHER,), False, frozenset(), (M,))
            case "back":
                self.fleet, self.first_seen = Fleet((M, OTHER)), self.now
        return self.snapshot(failed=happens == "failed")


EVENTS = (
    *("nothing",) * 6,
    *("called", "restarted", "gap cleaned up", "kept", "keep cleaned up", "closed"),
    *(
        "warned",
        "resumed",
        "database put back",
        "unreadable",
        "booked",
        "cancelled",
        "gone",
        "last known",
        "back",
        "failed",
    ),
)
STEPS = st.lists(st.tuples(st.sampled_from((0.25, 1.0, 5.0, 20.0, 45.0)), st.sampled_from(EVENTS)), max_size=25)


@settings(UNHURRIED, max_examples=5 * settings().max_examples)
@given(STEPS, st.sampled_from(UnbookingMode))
def test_what_lasts_is_what_a_fresh_judgement_finds(taken: list[tuple[float, str]], mode: UnbookingMode) -> None:
    timeline, lasting = Timeline(mode), LastingVerdicts()
    for minutes, happens in taken:
        found = timeline.step(minutes, happens)
        lasting = lasting.after(found)
        active = found.active_bookings.items()
        fresh = {key: found.judged(key, booking) for key, booking in active if key not in found.prior.spells}
        kept = lasting.verdicts()
        assert {key: (one.decision, one.reason) for key, one in kept.items()} == {
            key: (one.decision, one.reason) for key, one in fresh.items()
        }
        acting = {key: one for key, one in fresh.items() if one.decision is not Decision.HOLD}
        assert {key: kept[key] for key in acting} == acting


def after(timeline: Timeline, lasting: LastingVerdicts, minutes: float, happens: str = "nothing") -> LastingVerdicts:
    return lasting.after(timeline.step(minutes, happens))


def reason(lasting: LastingVerdicts) -> Reason:
    verdict = lasting.of[KEY].verdict
    assert verdict is not None
    return verdict.reason


def test_a_booking_in_use_is_judged_again_when_it_may_be_warned() -> None:
    timeline = Timeline()
    first = after(timeline, LastingVerdicts(), 10)
    assert reason(first) is Reason.IN_USE
    waiting = after(timeline, first, 34)  # 44 minutes; N - Y is 45
    assert waiting.of[KEY] is first.of[KEY]
    due = after(timeline, waiting, 1)
    assert reason(due) is Reason.UNUSED


def test_what_is_called_is_not_judged_before_it_might_have_been_idle_so_long_all_the_same() -> None:
    timeline = Timeline()
    first = after(timeline, LastingVerdicts(), 10)
    called = after(timeline, first, 20, "called")
    assert called.of[KEY] is first.of[KEY]
    again = after(timeline, called, 15)  # 45 minutes from the beginning, 15 since the call
    assert reason(again) is Reason.IN_USE
    assert again.of[KEY].judged_at == at(45 * MINUTE)


def test_between_slots_a_booking_is_judged_again_when_the_next_begins() -> None:
    timeline = Timeline()
    pause = after(timeline, LastingVerdicts(), 181)
    assert reason(pause) is Reason.BETWEEN_SLOTS
    assert after(timeline, pause, 2).of[KEY] is pause.of[KEY]
    assert after(timeline, pause, 1).of[KEY].judged_at == at(184 * MINUTE)


def test_a_booking_of_which_no_slot_runs_is_left_alone_until_one_does() -> None:
    timeline, boriss = Timeline(), (M.id, BORIS.id)
    first = after(timeline, LastingVerdicts(), 10)
    assert first.of[boriss].verdict is None
    assert after(timeline, first, 109).of[boriss] is first.of[boriss]
    begun = after(timeline, first, 1)
    assert begun.of[boriss].judged_at == at(2 * HOUR)


@pytest.mark.parametrize("happens", ["failed", "unreadable", "kept", "booked", "cancelled", "last known"])
def test_what_makes_a_verdict_another_is_noticed_at_once(happens: str) -> None:
    timeline = Timeline()
    first = after(timeline, LastingVerdicts(), 10)
    assert after(timeline, first, 1, happens).of.get(KEY) is not first.of[KEY]


@pytest.mark.parametrize("forgotten", ["called", "first seen", "closed", "resumed", "measured", "restarted"])
def test_of_a_database_put_back_it_is_judged_by_what_stands_there_now(forgotten: str) -> None:
    timeline = Timeline()
    early = timeline.readings.memory
    for minutes, happens in ((1, "called"), (1, "restarted"), (1, "back"), (1, "closed"), (1, "resumed")):
        timeline.step(minutes, happens)
    first = after(timeline, LastingVerdicts(), 1)
    assert after(timeline, first, 1).of[KEY] is first.of[KEY]
    memory = timeline.readings.memory
    match forgotten:
        case "called":
            timeline.readings.memory = replace(memory, usage=early.usage)
        case "measured":
            target = replace(memory.targets["a"], first_read_at=at(-HOUR))
            timeline.readings.memory = replace(memory, targets={"a": target})
        case "restarted":
            timeline.readings.memory = replace(memory, gaps=())
        case "first seen":
            timeline.first_seen = 0.0
        case "closed":
            timeline.closed.clear()
        case "resumed":
            timeline.resumed = None
    assert after(timeline, first, 1).of[KEY] is not first.of[KEY]


def test_a_booking_in_use_is_judged_again_when_its_slot_ends() -> None:
    timeline = Timeline()
    timeline.step(170, "called")
    first = after(timeline, LastingVerdicts(), 5)
    assert reason(first) is Reason.IN_USE
    assert reason(after(timeline, first, 6)) is Reason.BETWEEN_SLOTS  # of a pause that does not break the row


def test_what_was_judged_beside_a_keep_does_not_outlast_it() -> None:
    timeline = Timeline()
    timeline.step(5, "kept")
    over = after(timeline, LastingVerdicts(), 20)  # the keep has just ended, and excused until then
    assert reason(over) is Reason.IN_USE
    assert reason(after(timeline, over, 20, "keep cleaned up")) is Reason.UNUSED


def test_an_unreadable_series_of_a_whole_page_is_noticed() -> None:
    timeline = Timeline()
    first = after(timeline, LastingVerdicts(), 10)
    timeline.calls = nan
    assert reason(after(timeline, first, 1)) is Reason.READING_UNKNOWN


def test_an_instance_that_is_only_known_as_it_was_is_noticed() -> None:
    timeline = Timeline(booked=(replace(ANNAS, model_id=None),))
    first = after(timeline, LastingVerdicts(), 10)
    assert reason(first) is Reason.IN_USE
    assert reason(after(timeline, first, 1, "last known")) is Reason.READING_UNKNOWN


def test_the_clock_put_back_makes_all_be_judged_again() -> None:
    timeline = Timeline()
    first = after(timeline, LastingVerdicts(), 10)
    assert after(timeline, first, -5).of[KEY] is not first.of[KEY]


def test_what_is_written_of_a_verdict_that_lasts_has_the_numbers_of_now() -> None:
    timeline, verdicts = Timeline(), Verdicts()
    timeline.now += 10 * MINUTE
    verdicts.on(timeline.snapshot())
    now = timeline.step(20, "nothing")
    lasting = verdicts.on(now)[KEY]
    renewed = verdicts.renewed(now, KEY, lasting)
    assert (lasting.idle, renewed.idle) == (secs(10 * MINUTE), secs(30 * MINUTE))
    assert renewed == now.verdict(KEY)
    due = timeline.step(15, "nothing")
    judged = verdicts.on(due)[KEY]
    assert verdicts.renewed(due, KEY, judged) is judged


def test_another_users_key_is_not_confused() -> None:
    lasting = after(Timeline(), LastingVerdicts(), 150)
    assert lasting.of[KEY].slots.user == ANNA
    assert lasting.of[M.id, BORIS.id].slots.user == BORIS
    assert set(lasting.of) == {KEY, (UUID(int=1), BORIS.id)}
