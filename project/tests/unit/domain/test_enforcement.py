"""next_step() over every branch: what is cancelled, how, in which order, and what its user is told in the end."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.closing import Close, Tell, closing_records, counts, is_told, spell_record, what_was_done
from limiter.domain.command import UNFINISHED, Command, CommandKind, CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.enforcement import (
    Delete,
    EnforcementFacts,
    NextStep,
    Settle,
    Stop,
    Uninstall,
    Wait,
    next_reservation,
    next_step,
)
from limiter.domain.idle_spell import IdleSpell, SpellState, Step, StepState
from limiter.domain.reservations import Reservation, Slot
from tests.unit.domain.build import ANNA, BORIS, HOUR, IDLE, NAME, UNHURRIED, at, reservation, secs, served, slot, spell

PLANNED, DONE, GONE, FAILED, STOPPED = (
    StepState.PLANNED,
    StepState.DONE,
    StepState.ALREADY_GONE,
    StepState.FAILED,
    StepState.STOPPED,
)
ONE, TWO, THREE = slot(2 * HOUR, 3 * HOUR), slot(3 * HOUR, 4 * HOUR), slot(4 * HOUR, 5 * HOUR)
OTHER = slot(3 * HOUR, 4 * HOUR, of="r2")
UNINSTALLS = replace(IDLE, uninstall=True, uninstall_tell=secs(120))
NOW = HOUR


def step(of: Slot, state: StepState = PLANNED, attempts: int = 0, retry: float | None = None) -> Step:
    return Step(of, state, attempts, None if retry is None else at(retry))


def enforcing(*steps: Step, **changes: Any) -> IdleSpell:
    """A spell whose cancelling began at NOW."""
    begun = replace(spell(2700, not_before=3600, steps=steps), state=SpellState.ENFORCING, enforcing_at=at(NOW))
    return replace(begun, **changes)


def known(*booked: Reservation, now: float = NOW, gone: tuple[str, ...] = (), **changes: Any) -> EnforcementFacts:
    """These reservations were just read, those `gone` are not there any more, and the model runs."""
    found: Mapping[str, Reservation | None] = {one.id: one for one in booked} | dict.fromkeys(gone)
    return replace(EnforcementFacts(at(now), booked=found, model=served()), **changes)


def tell(
    reason: Reason,
    *,
    done: tuple[Slot, ...] = (),
    gone: tuple[Slot, ...] = (),
    failed: tuple[Slot, ...] = (),
    uninstalled: bool = False,
) -> Tell:
    return Tell(done, gone, failed, uninstalled, reason)


@pytest.mark.parametrize("state", [state for state in SpellState if state is not SpellState.ENFORCING])
@pytest.mark.parametrize("steps", [(step(ONE),), (step(ONE, DONE),)])
def test_of_a_spell_that_is_not_being_enforced_nothing_is_taken(state: SpellState, steps: tuple[Step, ...]) -> None:
    one = enforcing(*steps, state=state)
    assert next_step(one, known(reservation(ONE)), UNINSTALLS) == Wait(Reason.WARNED_WAITING)


# --- the next slot ----------------------------------------------------------------------------------------------------


def test_a_reservation_goes_whole_when_all_its_slots_were_named() -> None:
    found = next_step(enforcing(step(ONE), step(TWO)), known(reservation(ONE, TWO)), IDLE)
    assert found == Delete("r1", (ONE, TWO), whole=True)


@pytest.mark.parametrize(
    "stays",
    [
        pytest.param(slot(0, 2 * HOUR), id="the slot that runs"),
        pytest.param(slot(-2 * HOUR, -HOUR), id="one that is over"),
        pytest.param(slot(5 * HOUR, 6 * HOUR, id="added"), id="one that was booked after the warning"),
    ],
)
def test_a_reservation_of_which_a_slot_was_not_named_goes_slot_by_slot(stays: Slot) -> None:
    both = reservation(*sorted([stays, ONE, TWO]))
    assert next_step(enforcing(step(ONE), step(TWO)), known(both), IDLE) == Delete("r1", (ONE,), whole=False)
    left = reservation(*sorted([stays, TWO]))
    assert next_step(enforcing(step(ONE, DONE), step(TWO)), known(left), IDLE) == Delete("r1", (TWO,), whole=False)


def test_a_slot_that_was_named_twice_does_not_stand_for_one_that_was_not() -> None:
    """A reservation that says one id twice is refused where it is read; this is the second bar before a DELETE."""
    again, other = replace(TWO, id=ONE.id), slot(5 * HOUR, 6 * HOUR, id="not named")
    found = next_step(enforcing(step(ONE), step(again)), known(reservation(ONE, again, other)), IDLE)
    assert found == Delete("r1", (ONE,), whole=False)


def test_the_last_slot_of_a_reservation_takes_it_along() -> None:
    found = next_step(enforcing(step(ONE, DONE), step(TWO)), known(reservation(TWO)), IDLE)
    assert found == Delete("r1", (TWO,), whole=True)


@pytest.mark.parametrize("state", [DONE, FAILED, STOPPED])
def test_a_slot_whose_step_has_ended_and_that_is_still_there_is_not_taken_along(state: StepState) -> None:
    found = next_step(enforcing(step(ONE, state), step(TWO)), known(reservation(ONE, TWO)), IDLE)
    assert found == Delete("r1", (TWO,), whole=False)


def test_a_slot_that_is_over_meanwhile_is_not_taken_along() -> None:
    long, inside = slot(0, 9 * HOUR), slot(HOUR, 2 * HOUR)
    begun = enforcing(step(long), step(inside))
    assert next_step(begun, known(reservation(long, inside), now=2 * HOUR - 1), IDLE) == Delete(
        "r1", (long, inside), whole=True
    )
    assert next_step(begun, known(reservation(long, inside), now=2 * HOUR), IDLE) == Delete("r1", (long,), whole=False)


def test_each_reservation_is_judged_by_itself() -> None:
    begun = enforcing(step(ONE), step(OTHER))
    assert next_step(begun, known(reservation(OTHER)), IDLE) == Delete("r2", (OTHER,), whole=True)
    assert next_step(begun, known(reservation(ONE, THREE)), IDLE) == Delete("r1", (ONE,), whole=False)


def test_a_slot_of_the_same_id_in_another_reservation_is_not_taken_along() -> None:
    twin = slot(2 * HOUR, 3 * HOUR, id=ONE.id, of="r2")
    found = next_step(enforcing(step(twin), step(TWO)), known(reservation(ONE, TWO)), IDLE)
    assert found == Delete("r1", (TWO,), whole=False)


@pytest.mark.parametrize("facts", [known(gone=("r1",)), known(reservation(TWO))], ids=["reservation", "slot"])
def test_what_is_gone_is_settled_without_a_call(facts: EnforcementFacts) -> None:
    found = next_step(enforcing(step(ONE)), facts, IDLE)
    assert isinstance(found, Settle)
    assert (found.slots, found.state) == ((ONE,), GONE)


def test_a_slot_that_is_another_users_now_is_never_cancelled() -> None:
    found = next_step(enforcing(step(ONE)), known(reservation(ONE, user=BORIS)), IDLE)
    assert isinstance(found, Settle)
    assert (found.slots, found.state) == ((ONE,), FAILED)


@pytest.mark.parametrize(("now", "over"), [(3 * HOUR - 0.001, False), (3 * HOUR, True)])
@pytest.mark.parametrize("retry", [None, 9 * HOUR])
def test_a_slot_that_is_over_before_its_turn_was_not_cancelled(now: float, over: bool, retry: float | None) -> None:
    found = next_step(enforcing(step(ONE, retry=retry), step(TWO)), known(reservation(ONE, TWO, THREE), now=now), IDLE)
    if over:
        assert isinstance(found, Settle)
        assert (found.slots, found.state) == ((ONE,), FAILED)
    else:
        assert found == Delete("r1", (TWO if retry else ONE,), whole=False)


def test_a_slot_that_has_begun_may_go() -> None:
    assert next_step(enforcing(step(ONE)), known(reservation(ONE), now=3 * HOUR - 1), IDLE) == Delete(
        "r1", (ONE,), whole=True
    )


# --- what was refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "reservation_id"),
    [(NOW, "r2"), (NOW + 59.999, "r2"), (NOW + 60, "r1")],
)
def test_a_refused_step_waits_for_its_time_and_others_go_on(now: float, reservation_id: str) -> None:
    begun = enforcing(step(ONE, attempts=1, retry=NOW + 60), step(OTHER))
    assert next_reservation(begun, at(now)) == reservation_id
    booked = {"r1": reservation(ONE), "r2": reservation(OTHER)}[reservation_id]
    found = next_step(begun, known(booked, now=now), IDLE)
    assert found == Delete(reservation_id, booked.slots, whole=True)


def test_a_refused_slot_is_not_taken_along_before_its_time() -> None:
    begun, booked = enforcing(step(ONE, attempts=1, retry=NOW + 60), step(TWO)), reservation(ONE, TWO)
    assert next_step(begun, known(booked), IDLE) == Delete("r1", (TWO,), whole=False)
    assert next_step(begun, known(booked, now=NOW + 60), IDLE) == Delete("r1", (ONE, TWO), whole=True)


def test_while_all_that_is_left_was_refused_it_waits_and_nothing_is_uninstalled() -> None:
    begun = enforcing(step(TWO, DONE), step(ONE, attempts=1, retry=NOW + 60))
    assert next_step(begun, known(reservation(ONE)), UNINSTALLS) == Wait(Reason.REFUSED)
    assert next_step(begun, known(reservation(ONE), now=NOW + 60), UNINSTALLS) == Delete("r1", (ONE,), whole=True)


def test_without_a_fresh_reading_of_its_reservation_nothing_is_cancelled() -> None:
    assert next_step(enforcing(step(ONE)), known(), IDLE) == Wait(Reason.REFUSED)


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([], None),
        ([step(ONE, DONE), step(TWO, FAILED)], None),
        ([step(ONE), step(OTHER)], "r1"),
        ([step(ONE, DONE), step(OTHER)], "r2"),
        ([step(ONE, retry=NOW + 1), step(OTHER)], "r2"),
        ([step(ONE, retry=NOW), step(OTHER)], "r1"),
        ([step(ONE, retry=NOW + 1)], None),
        ([step(ONE, attempts=1, retry=NOW + 1)], "r1"),  # it may be gone
        ([step(ONE, DONE, attempts=1), step(OTHER, retry=NOW + 1)], None),
    ],
)
def test_the_reservation_to_read_is_that_of_the_first_step_that_may_be_taken_or_may_be_gone(
    steps: list[Step], found: str | None
) -> None:
    assert next_reservation(enforcing(*steps), at(NOW)) == found


@pytest.mark.parametrize("ended", [None, Reason.USED_AGAIN])
@pytest.mark.parametrize("waits", [None, Reason.READING_UNKNOWN])
@pytest.mark.parametrize("facts", [known(gone=("r1",)), known(reservation(THREE))], ids=["reservation", "slot"])
def test_what_is_gone_after_a_delete_of_ours_is_known_as_gone_before_anything_else(
    facts: EnforcementFacts, ended: Reason | None, waits: Reason | None
) -> None:
    begun = enforcing(step(ONE, attempts=1), step(TWO, attempts=2, retry=NOW + 60), step(OTHER, attempts=1))
    found = next_step(begun, replace(facts, ended=ended, waits=waits), IDLE)
    assert isinstance(found, Settle)
    assert (found.slots, found.state) == ((ONE, TWO), GONE)


def test_what_may_be_gone_is_read_before_it_is_said_to_stay() -> None:
    tried, first = step(ONE, attempts=1, retry=NOW + 60), step(OTHER)
    begun = enforcing(tried, first)
    assert next_reservation(begun, at(NOW)) == "r2"
    found = next_step(begun, known(reservation(OTHER), ended=Reason.USED_AGAIN), IDLE)
    assert found == Settle((OTHER,), STOPPED, "used_again")
    then = enforcing(tried, step(OTHER, STOPPED))
    assert next_reservation(then, at(NOW)) == "r1"
    assert next_step(then, known(reservation(ONE), ended=Reason.USED_AGAIN), IDLE) == Stop(Reason.USED_AGAIN)
    found = next_step(then, known(gone=("r1",), ended=Reason.USED_AGAIN), IDLE)
    assert isinstance(found, Settle)
    assert (found.slots, found.state) == ((ONE,), GONE)


def in_flight(of: Slot, until: float) -> Step:
    return replace(step(of, attempts=1), in_flight_until=at(until))


def test_what_a_delete_may_still_take_is_not_said_to_stay_before_it_can_take_it_no_more() -> None:
    begun, used = enforcing(in_flight(ONE, NOW + 30), step(TWO)), Reason.USED_AGAIN
    booked = reservation(ONE, TWO)
    assert next_step(begun, known(booked, ended=used), IDLE) == Settle((TWO,), STOPPED, "used_again")
    then = replace(begun, steps=(begun.steps[0], step(TWO, STOPPED)))
    assert next_step(then, known(booked, now=NOW + 29, ended=used), IDLE) == Wait(Reason.DELETE_IN_FLIGHT)
    assert next_step(then, known(booked, now=NOW + 30, ended=used), IDLE) == Stop(Reason.USED_AGAIN)
    gone = next_step(then, known(reservation(TWO), now=NOW + 29, ended=used), IDLE)
    assert isinstance(gone, Settle)
    assert (gone.slots, gone.state) == ((ONE,), GONE)


def test_what_a_delete_may_still_take_is_tried_again_at_once() -> None:
    assert next_step(enforcing(in_flight(ONE, NOW + 30)), known(reservation(ONE)), IDLE) == Delete("r1", (ONE,), True)


def test_what_is_over_is_not_said_to_be_refused_while_a_delete_may_have_taken_it() -> None:
    begun, over = enforcing(in_flight(ONE, 4 * HOUR + 30)), reservation(ONE)
    assert next_step(begun, known(over, now=4 * HOUR), IDLE) == Wait(Reason.REFUSED)
    found = next_step(begun, known(over, now=4 * HOUR + 30), IDLE)
    assert isinstance(found, Settle)
    assert found.state is FAILED


def test_what_is_over_and_may_be_gone_is_read_before_it_is_said_to_be_refused() -> None:
    begun = enforcing(step(ONE, attempts=1, retry=9 * HOUR))
    assert next_step(begun, known(now=4 * HOUR), IDLE) == Wait(Reason.REFUSED)
    found = next_step(begun, known(reservation(ONE), now=4 * HOUR), IDLE)
    assert isinstance(found, Settle)
    assert found.state is FAILED


# --- what ends or holds it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [Reason.EXEMPT, Reason.KEPT, Reason.USED_AGAIN, Reason.MODE_CHANGED])
@pytest.mark.parametrize("waits", [None, Reason.READING_UNKNOWN])
def test_an_exemption_a_keep_use_and_the_mode_end_the_rest(ended: Reason, waits: Reason | None) -> None:
    begun = enforcing(step(ONE, DONE), step(TWO))
    assert next_step(begun, known(reservation(TWO), ended=ended, waits=waits), IDLE) == Stop(ended)


@pytest.mark.parametrize(
    "waits", [Reason.READING_UNKNOWN, Reason.BOOKINGS_UNREADABLE, Reason.MODE_CHANGED, Reason.QUIET_HOURS]
)
@pytest.mark.parametrize(("steps", "rule"), [([step(ONE)], IDLE), ([step(ONE, DONE)], UNINSTALLS)])
def test_what_is_not_known_a_dry_run_and_the_quiet_hours_hold_every_step(
    waits: Reason, steps: list[Step], rule: Any
) -> None:
    assert next_step(enforcing(*steps), known(reservation(ONE), waits=waits), rule) == Wait(waits)


@pytest.mark.parametrize("stopped_for", [Reason.USED_AGAIN, Reason.KEPT, Reason.EXEMPT, Reason.MODE_CHANGED])
@pytest.mark.parametrize("rule", [IDLE, UNINSTALLS])
def test_a_stopped_cancelling_is_told_with_what_was_done_before_and_nothing_is_uninstalled(
    stopped_for: Reason, rule: Any
) -> None:
    begun = enforcing(step(ONE, DONE), step(TWO, GONE), step(THREE, STOPPED), stopped_for=stopped_for)
    assert next_step(begun, known(), rule) == tell(stopped_for, done=(ONE,), gone=(TWO,))


@pytest.mark.parametrize("stopped_for", [Reason.USED_AGAIN, Reason.KEPT, Reason.EXEMPT, Reason.MODE_CHANGED])
def test_a_cancelling_that_was_stopped_before_anything_was_done_is_withdrawn_for_that_reason(
    stopped_for: Reason,
) -> None:
    begun = enforcing(step(ONE, STOPPED), step(TWO, GONE), stopped_for=stopped_for)
    assert next_step(begun, known(), UNINSTALLS) == Close(stopped_for)


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_when_every_slot_is_cancelled_it_is_told() -> None:
    begun = enforcing(step(ONE, DONE), step(TWO, DONE), step(THREE, GONE))
    assert next_step(begun, known(), IDLE) == tell(Reason.DEADLINE_PASSED, done=(ONE, TWO), gone=(THREE,))


@pytest.mark.parametrize("rule", [IDLE, UNINSTALLS])
def test_what_was_refused_for_good_is_told_as_failed_and_bars_the_uninstall(rule: Any) -> None:
    begun = enforcing(step(ONE, DONE), step(TWO, FAILED))
    assert next_step(begun, known(), rule) == tell(Reason.REFUSED, done=(ONE,), failed=(TWO,))


@pytest.mark.parametrize("rule", [IDLE, UNINSTALLS])
def test_if_everything_was_refused_that_is_told_too(rule: Any) -> None:
    assert next_step(enforcing(step(ONE, FAILED)), known(), rule) == tell(Reason.REFUSED, failed=(ONE,))


@pytest.mark.parametrize("state", [GONE, STOPPED])
def test_if_nothing_was_left_the_warning_is_withdrawn(state: StepState) -> None:
    assert next_step(enforcing(step(ONE, state)), known(), IDLE) == Close(Reason.NOTHING_TO_CANCEL)


def test_what_is_gone_after_a_delete_of_ours_is_told_since_we_may_have_taken_it() -> None:
    found = next_step(enforcing(step(ONE, GONE, attempts=1)), known(), IDLE)
    assert found == tell(Reason.DEADLINE_PASSED, gone=(ONE,))


def test_what_is_told_does_not_change_with_what_is_known_later() -> None:
    begun = enforcing(step(ONE, DONE))
    for changes in ({"ended": Reason.KEPT}, {"waits": Reason.READING_UNKNOWN}, {"model": None}):
        assert next_step(begun, known(**changes), IDLE) == tell(Reason.DEADLINE_PASSED, done=(ONE,))


# --- the uninstall ----------------------------------------------------------------------------------------------------


def uninstall(state: CommandState) -> Command:
    kind = CommandKind.UNINSTALL
    return Command(UUID(int=8), served().id, NAME, kind, None, state, at(NOW), spell_id=UUID(int=9))


def settled(*steps: Step, command: CommandState | None = None, settled_at: float = NOW) -> IdleSpell:
    """A spell whose steps have ended."""
    own = None if command is None else uninstall(command)
    return enforcing(*(steps or (step(ONE, DONE),)), uninstall=own, settled_at=at(settled_at))


@pytest.mark.parametrize("steps", [[step(ONE, DONE)], [step(ONE, GONE)], [step(ONE, DONE), step(TWO, GONE)]])
def test_when_every_slot_is_gone_the_model_is_uninstalled(steps: list[Step]) -> None:
    assert next_step(settled(*steps), known(), UNINSTALLS) == Uninstall(served())


def test_a_model_is_uninstalled_also_if_no_slot_was_named() -> None:
    assert next_step(enforcing(), known(), UNINSTALLS) == Uninstall(served())


@pytest.mark.parametrize("state", [PLANNED, FAILED])
@pytest.mark.parametrize("late", [0, 119, 120, 9 * HOUR])
def test_nothing_is_uninstalled_while_any_step_is_planned_or_failed(state: StepState, late: float) -> None:
    begun = settled(step(ONE, DONE), step(TWO, state, attempts=1, retry=99 * HOUR))
    found = next_step(begun, known(reservation(TWO), now=NOW + late), UNINSTALLS)
    assert not isinstance(found, Uninstall)
    if state is FAILED:
        assert found == tell(Reason.REFUSED, done=(ONE,), failed=(TWO,))


BLOCKERS = [
    Reason.HELD_BY_ANOTHER,
    Reason.BOOKED_SOON,
    Reason.KEEPS_SLOT,
    Reason.BOOKINGS_UNREADABLE,
    Reason.USED_AGAIN,
]


@pytest.mark.parametrize("blocker", BLOCKERS)
def test_whatever_blocks_an_uninstall_is_why_it_is_told_as_not_done(blocker: Reason) -> None:
    assert next_step(settled(), known(blocker=blocker), UNINSTALLS) == tell(blocker, done=(ONE,))


def test_a_model_that_runs_no_more_is_not_uninstalled() -> None:
    assert next_step(settled(), known(model=None), UNINSTALLS) == tell(Reason.MODEL_GONE, done=(ONE,))


@pytest.mark.parametrize("ended", [Reason.EXEMPT, Reason.KEPT, Reason.USED_AGAIN, Reason.MODE_CHANGED])
def test_what_ends_a_cancelling_ends_the_uninstall_too_and_what_was_cancelled_is_told(ended: Reason) -> None:
    found = next_step(settled(), known(ended=ended, waits=Reason.READING_UNKNOWN), UNINSTALLS)
    assert found == tell(ended, done=(ONE,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ended": Reason.USED_AGAIN}, Reason.USED_AGAIN),
        ({"ended": Reason.KEPT}, Reason.KEPT),
        ({"ended": Reason.EXEMPT}, Reason.EXEMPT),
        ({"ended": Reason.MODE_CHANGED}, Reason.MODE_CHANGED),
        ({"blocker": Reason.USED_AGAIN}, Reason.USED_AGAIN),
        ({"model": None}, Reason.MODEL_GONE),
        ({"blocker": Reason.MODEL_GONE, "model": None}, Reason.MODEL_GONE),
        ({"blocker": Reason.HELD_BY_ANOTHER}, Reason.NOTHING_TO_CANCEL),
        ({"blocker": Reason.BOOKED_SOON}, Reason.NOTHING_TO_CANCEL),
        ({"blocker": Reason.KEEPS_SLOT}, Reason.NOTHING_TO_CANCEL),
        ({"now": NOW + 120}, Reason.NOTHING_TO_CANCEL),
    ],
)
@pytest.mark.parametrize("steps", [[], [step(ONE, GONE)]])
def test_if_nothing_was_cancelled_and_nothing_uninstalled_the_warning_is_withdrawn_for_the_right_reason(
    steps: list[Step], changes: dict[str, Any], reason: Reason
) -> None:
    assert next_step(enforcing(*steps), known(**changes), UNINSTALLS) == Close(reason)


@pytest.mark.parametrize("state", UNFINISHED)
@pytest.mark.parametrize("late", [0, 119.999])
def test_an_uninstall_under_way_is_waited_for(state: CommandState, late: float) -> None:
    begun = settled(command=state)
    for changes in ({}, {"ended": Reason.USED_AGAIN}, {"blocker": Reason.USED_AGAIN}, {"model": None}):
        assert next_step(begun, known(now=NOW + late, **changes), UNINSTALLS) == Wait(Reason.COMMAND_UNFINISHED)


@pytest.mark.parametrize("state", UNFINISHED)
@pytest.mark.parametrize("late", [120, 9 * HOUR])
def test_an_uninstall_that_takes_too_long_is_told_as_not_done(state: CommandState, late: float) -> None:
    found = next_step(settled(command=state), known(now=NOW + late), UNINSTALLS)
    assert found == tell(Reason.UNINSTALL_LATE, done=(ONE,))
    lone = enforcing(uninstall=uninstall(state))
    assert next_step(lone, known(now=NOW + late), UNINSTALLS) == tell(Reason.UNINSTALL_LATE)  # the model may still go


@pytest.mark.parametrize("steps", [[], [step(ONE, GONE)], [step(ONE, DONE)]])
@pytest.mark.parametrize("late", [0, 9 * HOUR])
def test_a_completed_uninstall_is_told_as_done_however_long_it_took(steps: list[Step], late: float) -> None:
    begun = enforcing(*steps, uninstall=uninstall(CommandState.COMPLETED), settled_at=at(NOW))
    found = next_step(begun, known(now=NOW + late, model=None, ended=Reason.USED_AGAIN), UNINSTALLS)
    assert isinstance(found, Tell)
    assert (found.uninstalled, found.reason) == (True, Reason.DEADLINE_PASSED)


def test_a_failed_uninstall_is_repeated_when_its_backoff_is_over() -> None:
    begun = settled(command=CommandState.FAILED)
    blocked = known(now=NOW + 59, command_blocks=Reason.BACKING_OFF)
    assert next_step(begun, blocked, UNINSTALLS) == Wait(Reason.BACKING_OFF)
    assert next_step(begun, known(now=NOW + 60), UNINSTALLS) == Uninstall(served())
    late = known(now=NOW + 120, command_blocks=Reason.BACKING_OFF)
    assert next_step(begun, late, UNINSTALLS) == tell(Reason.UNINSTALL_LATE, done=(ONE,))


def test_an_uninstall_is_waited_for_from_the_last_step_on_or_without_steps_from_the_beginning() -> None:
    assert isinstance(next_step(settled(settled_at=5000), known(now=5119), UNINSTALLS), Uninstall)
    assert isinstance(next_step(settled(settled_at=5000), known(now=5120), UNINSTALLS), Tell)
    assert isinstance(next_step(enforcing(), known(now=NOW + 119), UNINSTALLS), Uninstall)
    assert isinstance(next_step(enforcing(), known(now=NOW + 120), UNINSTALLS), Close)
    assert isinstance(next_step(enforcing(enforcing_at=None), known(now=9 * HOUR), UNINSTALLS), Uninstall)


def test_an_uninstall_of_a_dry_run_is_over_at_once() -> None:
    begun = settled(command=CommandState.DRY_RUN)
    assert next_step(begun, known(), UNINSTALLS) == tell(Reason.DEADLINE_PASSED, done=(ONE,))


@pytest.mark.parametrize("blocks", [Reason.COMMAND_UNFINISHED, Reason.BACKING_OFF, Reason.COOLING_DOWN])
def test_whatever_keeps_a_command_from_being_sent_is_waited_for(blocks: Reason) -> None:
    assert next_step(settled(), known(command_blocks=blocks), UNINSTALLS) == Wait(blocks)


# --- the whole of it --------------------------------------------------------------------------------------------------

SLOTS = [slot(HOUR * (2 + number), HOUR * (3 + number), of=f"r{number % 3}") for number in range(6)]
BOOKED = tuple(reservation(*SLOTS[number::3]) for number in range(3))


class Booked:
    """A booking service that refuses some of the DELETEs; it knows what went."""

    def __init__(self, *booked: Reservation, refused: frozenset[Slot] = frozenset()) -> None:
        self.booked = {one.id: one for one in booked}
        self.refused = refused
        self.deletes: list[Delete] = []

    def delete(self, step: Delete) -> StepState:
        self.deletes.append(step)
        if self.refused & set(step.slots):
            return FAILED
        there = self.booked.pop(step.reservation_id)
        left = [] if step.whole else [one for one in there.slots if one not in step.slots]
        if left:
            self.booked[there.id] = replace(there, slots=tuple(left))
        return DONE

    @property
    def left(self) -> set[Slot]:
        return {one for booked in self.booked.values() for one in booked.slots}


def enforced(begun: IdleSpell, service: Booked, ends_after: int = 99) -> tuple[IdleSpell, NextStep]:
    """Take step after step; use comes after so many of them. What is asked for twice must be the same."""
    for number in range(99):
        reading = next_reservation(begun, at(NOW))
        booked = {} if reading is None else {reading: service.booked.get(reading)}
        ended = Reason.USED_AGAIN if number >= ends_after else None
        facts = known(ended=ended, booked=booked)
        found = next_step(begun, facts, IDLE)
        assert next_step(begun, facts, IDLE) == found
        match found:
            case Delete():
                begun = changed(begun, found.slots, service.delete(found))
            case Settle():
                begun = changed(begun, found.slots, found.state)
            case Stop():
                begun = changed(replace(begun, stopped_for=found.reason), begun.named, STOPPED)
            case _:
                return begun, found
    raise AssertionError("it does not end")


def changed(begun: IdleSpell, slots: tuple[Slot, ...], state: StepState) -> IdleSpell:
    steps = (replace(one, state=state) if one.slot in slots and one.state is PLANNED else one for one in begun.steps)
    return replace(begun, steps=tuple(steps))


CHOSEN = st.frozensets(st.sampled_from(SLOTS))


@UNHURRIED
@given(CHOSEN)
def test_exactly_the_named_slots_go_each_once_and_a_whole_one_takes_no_other_along(named: frozenset[Slot]) -> None:
    service = Booked(*BOOKED)
    _, last = enforced(enforcing(*map(step, sorted(named))), service)
    assert service.left == set(SLOTS) - named
    assert sorted(one for delete in service.deletes for one in delete.slots) == sorted(named)
    for delete in service.deletes:
        of_it = {one for one in SLOTS if one.reservation_id == delete.reservation_id}
        assert delete.whole or len(delete.slots) == 1
        assert not delete.whole or of_it <= named
    done = tuple(sorted(named))
    assert last == (tell(Reason.DEADLINE_PASSED, done=done) if named else Close(Reason.NOTHING_TO_CANCEL))


@UNHURRIED
@given(CHOSEN, CHOSEN, CHOSEN, CHOSEN, st.integers(0, 8))
def test_whatever_is_refused_given_back_or_added_and_whenever_use_comes_it_ends_and_the_truth_is_told(
    named: frozenset[Slot], refused: frozenset[Slot], given_back: frozenset[Slot], added: frozenset[Slot], ends: int
) -> None:
    more = [slot(HOUR * 20, HOUR * 21, id=f"added {one.id}", of=one.reservation_id) for one in sorted(added)]
    now = [*(one for one in SLOTS if one not in given_back), *more]
    booked = [reservation(*(one for one in now if one.reservation_id == of), id=of) for of in ("r0", "r1", "r2")]
    service = Booked(*(one for one in booked if one.slots), refused=refused)
    spelled, last = enforced(enforcing(*map(step, sorted(named))), service, ends)
    went = set(now) - service.left
    assert went <= named
    assert not any(one.state is PLANNED for one in spelled.steps)
    if isinstance(last, Tell):
        assert set(last.cancelled) == went
        assert set(last.failed) <= service.left
        assert {one.reservation_id for one in last.failed} <= {one.reservation_id for one in refused}
        assert set(last.already_gone) <= given_back
        assert last.cancelled or last.failed
        assert not last.uninstalled
    else:
        assert isinstance(last, Close)
        assert last.reason in (Reason.NOTHING_TO_CANCEL, Reason.USED_AGAIN)
        assert not went


# --- what is told and recorded ----------------------------------------------------------------------------------------

MIXED = enforcing(step(ONE, DONE), step(TWO, FAILED), step(THREE, GONE), step(OTHER, STOPPED))


def test_what_was_done_is_told_by_what_became_of_the_slots() -> None:
    assert what_was_done(MIXED, Reason.REFUSED) == tell(Reason.REFUSED, done=(ONE,), gone=(THREE,), failed=(TWO,))
    assert what_was_done(MIXED, Reason.REFUSED, uninstalled=True).uninstalled
    assert counts(MIXED) == {"slots": 4, "done": 1, "failed": 1}


@pytest.mark.parametrize(
    ("steps", "uninstalled", "expected"),
    [
        ([], False, False),
        ([], True, True),
        ([step(ONE, DONE)], False, True),
        ([step(ONE, FAILED)], False, True),
        ([step(ONE, GONE)], False, False),
        ([step(ONE, GONE, attempts=1)], False, True),
        ([step(ONE, STOPPED)], False, False),
        ([step(ONE, STOPPED, attempts=1)], False, False),
    ],
)
def test_more_than_a_withdrawal_is_told_if_anything_was_taken_or_refused(
    steps: list[Step], uninstalled: bool, expected: bool
) -> None:
    begun = enforcing(*steps)
    assert is_told(begun, what_was_done(begun, Reason.REFUSED, uninstalled=uninstalled)) is expected


CLOSED = enforcing(step(ONE, DONE))


@pytest.mark.parametrize(
    ("begun", "closing", "expected"),
    [
        (CLOSED, tell(Reason.DEADLINE_PASSED, done=(ONE,)), []),
        (CLOSED, tell(Reason.DEADLINE_PASSED, done=(ONE,), uninstalled=True), []),
        (CLOSED, tell(Reason.KEEPS_SLOT, done=(ONE,), uninstalled=True), []),
        (CLOSED, tell(Reason.KEEPS_SLOT, done=(ONE,)), [(Decision.HOLD, Reason.KEEPS_SLOT)]),
        (CLOSED, tell(Reason.UNINSTALL_LATE, done=(ONE,)), [(Decision.HOLD, Reason.UNINSTALL_LATE)]),
        (MIXED, tell(Reason.REFUSED, done=(ONE,), failed=(TWO,)), [(Decision.CANCEL, Reason.REFUSED)]),
        (
            replace(CLOSED, stopped_for=Reason.KEPT),
            tell(Reason.KEPT, done=(ONE,)),
            [(Decision.CANCEL, Reason.KEPT)],
        ),
        (
            replace(MIXED, stopped_for=Reason.USED_AGAIN),
            tell(Reason.USED_AGAIN, done=(ONE,), failed=(TWO,)),
            [(Decision.CANCEL, Reason.USED_AGAIN)],
        ),
        (CLOSED, Close(Reason.USED_AGAIN), [(Decision.WITHDRAW, Reason.USED_AGAIN)]),
        (CLOSED, Close(Reason.NOTHING_TO_CANCEL), [(Decision.WITHDRAW, Reason.NOTHING_TO_CANCEL)]),
    ],
)
def test_a_closing_records_what_did_not_go_as_decided(
    begun: IdleSpell, closing: Tell | Close, expected: list[tuple[Decision, Reason]]
) -> None:
    records = closing_records(begun, closing, at(NOW))
    assert [(one.decision, one.reason) for one in records] == expected
    for one in records:
        assert (one.at, one.model_id, one.model_name, one.user_id) == (at(NOW), served().id, NAME, ANNA.id)
        assert one.why
        if one.decision is Decision.CANCEL:
            assert one.numbers == counts(begun)


@pytest.mark.parametrize("ended", [Reason.EXEMPT, Reason.KEPT, Reason.USED_AGAIN, Reason.MODE_CHANGED])
@pytest.mark.parametrize("done", [True, False])
def test_every_end_of_a_stopped_cancelling_can_be_said_in_words(ended: Reason, done: bool) -> None:
    begun = enforcing(step(ONE, DONE if done else STOPPED), stopped_for=ended)
    closing = next_step(begun, known(), UNINSTALLS)
    assert isinstance(closing, Tell | Close)
    (found,) = closing_records(begun, closing, at(NOW))
    assert (found.decision, found.reason) == (Decision.CANCEL if done else Decision.WITHDRAW, ended)
    assert found.why


@pytest.mark.parametrize("blocker", [*BLOCKERS, Reason.MODEL_GONE, Reason.UNINSTALL_LATE, Reason.KEPT, Reason.EXEMPT])
def test_every_reason_not_to_uninstall_can_be_said_in_words(blocker: Reason) -> None:
    (found,) = closing_records(CLOSED, tell(blocker, done=(ONE,)), at(NOW))
    assert (found.decision, found.reason) == (Decision.HOLD, blocker)
    assert found.why


def test_the_record_of_a_spell_names_its_booking() -> None:
    found = spell_record(CLOSED, Decision.WITHDRAW, Reason.KEPT, at(5), {"slots": 1})
    assert (found.at, found.model_id, found.model_name, found.user_id) == (at(5), served().id, NAME, ANNA.id)
    assert (found.decision, found.reason, found.numbers) == (Decision.WITHDRAW, Reason.KEPT, {"slots": 1})
    assert spell_record(CLOSED, Decision.WITHDRAW, Reason.KEPT, at(5)).numbers == {}


@pytest.mark.parametrize(
    ("planned", "facts", "why"),
    [
        (step(slot(0, NOW)), known(reservation(ONE)), "over before it could be cancelled"),
        (step(ONE), known(gone=("r1",)), "not booked any more"),
        (step(ONE), known(reservation(ONE, user=BORIS)), "booked by another user now"),
        (step(ONE, attempts=1), known(gone=("r1",)), "gone after a DELETE whose answer is not known"),
    ],
)
def test_what_is_settled_without_a_delete_says_why(planned: Step, facts: EnforcementFacts, why: str) -> None:
    found = next_step(enforcing(planned), facts, IDLE)
    assert isinstance(found, Settle)
    assert found.why == why
