"""What a cancelling takes, and who else claims the model."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.reservations import Bookings, Cancellation, Reservation, Slot, deletes, other_users_claim
from tests.unit.domain.build import ANNA, BORIS, HOUR, UNHURRIED, at, reservation, secs, served, slot

ONE, TWO, THREE = slot(0, HOUR), slot(HOUR, 2 * HOUR), slot(2 * HOUR, 3 * HOUR)
OTHER = slot(HOUR, 2 * HOUR, of="r2")


def test_a_reservation_goes_whole_when_all_its_slots_go() -> None:
    bookings = Bookings((reservation(TWO, THREE),))
    assert deletes(bookings, [THREE, TWO]) == [Cancellation("r1", (TWO, THREE), whole=True)]


def test_a_reservation_of_which_a_slot_stays_goes_slot_by_slot() -> None:
    bookings = Bookings((reservation(ONE, TWO, THREE),))
    assert deletes(bookings, [TWO, THREE]) == [
        Cancellation("r1", (TWO,), whole=False),
        Cancellation("r1", (THREE,), whole=False),
    ]


def test_each_reservation_is_judged_by_itself() -> None:
    bookings = Bookings((reservation(ONE, TWO), reservation(OTHER)))
    steps = deletes(bookings, [TWO, OTHER])
    assert {(step.reservation_id, step.whole) for step in steps} == {("r1", False), ("r2", True)}


def test_a_reservation_that_is_not_in_the_list_never_goes_whole() -> None:
    assert deletes(Bookings(()), [ONE]) == [Cancellation("r1", (ONE,), whole=False)]


def test_nothing_to_cancel_are_no_steps() -> None:
    assert deletes(Bookings((reservation(ONE),)), []) == []


SOME = st.lists(st.booleans(), min_size=6, max_size=6)


@UNHURRIED
@given(SOME)
def test_exactly_the_given_slots_go_each_once_and_a_whole_one_takes_no_other_along(chosen: list[bool]) -> None:
    slots = [slot(HOUR * number, HOUR * (number + 1), of=f"r{number % 3}") for number in range(6)]
    booked = Bookings(tuple(reservation(*slots[number::3]) for number in range(3)))
    going = [each for each, goes in zip(slots, chosen, strict=True) if goes]
    steps = deletes(booked, going)
    assert sorted(each for step in steps for each in step.slots) == going
    for step in steps:
        assert step.whole == (set(step.slots) == set(booked.by_id[step.reservation_id].slots))
        assert step.whole or len(step.slots) == 1


def claim(now: float, *reservations: Reservation, guard: float = 1800) -> tuple[bool, bool]:
    return other_users_claim(served(), ANNA.id, Bookings(reservations), secs(guard), at(now))


def boris(*slots: Slot, name: str = served().name, model: int | None = 1) -> Reservation:
    return reservation(*slots, user=BORIS, name=name, model=model, id="his")


@pytest.mark.parametrize(("now", "claimed"), [(-0.001, False), (0, True), (HOUR - 0.001, True), (HOUR, False)])
def test_another_user_claims_it_from_the_start_of_his_slot_until_just_before_its_end(now: float, claimed: bool) -> None:
    assert claim(now, boris(ONE))[0] is claimed


@pytest.mark.parametrize(("now", "soon"), [(-1800.001, False), (-1800, True), (-0.001, True), (0, False)])
def test_his_slot_starts_soon_from_exactly_the_guard_before_it_until_it_has_begun(now: float, soon: bool) -> None:
    assert claim(now, boris(ONE))[1] is soon


def test_he_may_have_booked_it_now_and_soon_again() -> None:
    assert claim(HOUR - 60, boris(ONE, TWO)) == (True, True)


def test_without_a_guard_only_the_present_counts() -> None:
    assert claim(-1, boris(ONE), guard=0) == (False, False)
    assert claim(0, boris(ONE), guard=0) == (True, False)


def test_my_own_slots_are_no_claim_of_another() -> None:
    assert claim(60, reservation(ONE, TWO)) == (False, False)


def test_a_claim_to_a_bare_name_is_a_claim_to_every_instance_of_it() -> None:
    assert claim(60, boris(ONE, model=None)) == (True, False)


@pytest.mark.parametrize("theirs", [boris(ONE, model=2), boris(ONE, name="other", model=None)])
def test_a_claim_to_another_instance_or_name_is_none(theirs: Reservation) -> None:
    assert claim(60, theirs) == (False, False)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_any_of_several_claims_counts(order: Sequence[int]) -> None:
    theirs = (boris(THREE), reservation(ONE, user=BORIS, id="second"))
    assert claim(60, *(theirs[number] for number in order)) == (True, False)
