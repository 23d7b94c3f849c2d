"""Reservations: how they are found, and who else claims a model."""

from collections.abc import Sequence

import pytest

from limiter.domain.fleet import Fleet
from limiter.domain.reservations import Bookings, Reservation, Slot, barred, other_users_claim, own_slot_soon
from tests.unit.domain.build import ANNA, BORIS, HOUR, NAME, at, reservation, secs, served, slot

ONE, TWO, THREE = slot(0, HOUR), slot(HOUR, 2 * HOUR), slot(2 * HOUR, 3 * HOUR)
MINE = reservation(ONE, TWO)
THEIRS = reservation(slot(HOUR, 2 * HOUR, of="r2"), user=BORIS)


def test_replicas_of_instances_with_one_name_add_up() -> None:
    fleet = Fleet((served(1, replicas=2), served(2, replicas=3), served(3, "other")))
    assert fleet.replicas_by_name == {served().name: 5, "other": 1}
    assert fleet.by_id[served(3).id].name == "other"


def test_slots_are_in_order_of_their_start() -> None:
    assert sorted([THREE, ONE, TWO]) == [ONE, TWO, THREE]


def test_one_users_bookings_are_those_among_everybodys() -> None:
    booked = Bookings((MINE, THEIRS), frozenset({"x"}))
    assert booked.of_user(ANNA.id) == Bookings((MINE,), frozenset({"x"}))
    assert booked.of_user(BORIS.id) == Bookings((THEIRS,), frozenset({"x"}))


def test_reservations_are_found_by_their_id_and_by_their_model() -> None:
    bare = reservation(THREE, model=None, id="bare")
    booked = Bookings((MINE, THEIRS, bare))
    assert booked.by_id == {"r1": MINE, "r2": THEIRS, "bare": bare}
    assert booked.by_model == {served().id: (MINE, THEIRS), NAME: (bare,)}


def test_a_reservation_as_it_was_just_read_takes_the_place_of_the_one_that_was_known() -> None:
    booked = Bookings((MINE, THEIRS), frozenset({"x"}))
    shorter = reservation(ONE)
    assert booked.with_one("r1", shorter) == Bookings((THEIRS, shorter), frozenset({"x"}))
    assert booked.with_one("r1", shorter).by_id["r1"] == shorter


def test_a_reservation_that_is_gone_is_taken_out() -> None:
    booked = Bookings((MINE, THEIRS), frozenset({"x"}))
    assert booked.with_one("r1", None) == Bookings((THEIRS,), frozenset({"x"}))


def test_a_new_reservation_is_added() -> None:
    assert Bookings((MINE,)).with_one("r2", THEIRS) == Bookings((MINE, THEIRS))


@pytest.mark.parametrize(("id", "read"), [("r1", reservation(ONE, TWO)), ("never", None)])
def test_what_did_not_change_leaves_the_bookings_as_they_are(id: str, read: Reservation | None) -> None:
    booked = Bookings((MINE, THEIRS))
    assert booked.with_one(id, read) is booked


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


@pytest.mark.parametrize("now", [-1800.001, -1800, -0.001, 0, HOUR - 0.001, HOUR])
def test_an_uninstall_is_barred_just_when_another_users_slot_or_an_own_one_that_starts_soon_would_forbid_it(
    now: float,
) -> None:
    for booked in (boris(ONE), reservation(ONE)):
        bookings = Bookings((booked,))
        stretches = barred(served(), ANNA.id, bookings, secs(1800))
        forbidden = any(claim(now, booked)) or own_slot_soon(served(), ANNA.id, bookings, secs(1800), at(now))
        assert any(start <= at(now) < end for start, end in stretches) is forbidden
