"""Who has booked which running model now: rows of slots, their borders, and what follows."""

import pytest

from limiter.domain.active_bookings import ActiveBooking, active_bookings, rows
from limiter.domain.fleet import Fleet
from limiter.domain.reservations import Bookings, Reservation, Slot, UnbookingMode
from tests.unit.domain.build import ANNA, BORIS, HOUR, MINUTE, at, reservation, secs, served, slot

GAP = secs(5 * MINUTE)
IN_ROW, ALL = UnbookingMode.IN_ROW, UnbookingMode.ALL


def active(now: float, *reservations: Reservation, fleet: Fleet | None = None) -> list[ActiveBooking]:
    return active_bookings(fleet or Fleet((served(),)), Bookings(reservations), GAP, at(now))


def only(now: float, *slots: Slot) -> ActiveBooking:
    (booking,) = active(now, reservation(*slots))
    return booking


@pytest.mark.parametrize(("pause", "count"), [(-1, 1), (0, 1), (300, 1), (300.001, 2), (301, 2)])
def test_a_pause_up_to_the_limit_keeps_the_row_and_a_longer_one_breaks_it(pause: float, count: int) -> None:
    assert len(rows([slot(0, HOUR), slot(HOUR + pause, 2 * HOUR)], GAP)) == count


def test_without_a_gap_allowed_only_touching_slots_are_a_row() -> None:
    touching, apart = slot(HOUR, 2 * HOUR), slot(2 * HOUR + 1, 3 * HOUR)
    assert rows([slot(0, HOUR), touching, apart], secs(0)) == [(slot(0, HOUR), touching), (apart,)]


def test_a_slot_inside_a_longer_one_does_not_shorten_the_row() -> None:
    long, inside, after = slot(0, 4 * HOUR), slot(HOUR, 2 * HOUR), slot(4 * HOUR + 300, 5 * HOUR)
    assert rows([long, inside, after], GAP) == [(long, inside, after)]


def test_no_slots_are_no_rows() -> None:
    assert rows([], GAP) == []


@pytest.mark.parametrize(("now", "count"), [(-0.001, 0), (0, 1), (HOUR - 0.001, 1), (HOUR, 0)])
def test_a_slot_is_active_from_its_start_until_just_before_its_end(now: float, count: int) -> None:
    assert len(active(now, reservation(slot(0, HOUR)))) == count


def test_a_slot_covers_its_start_and_not_its_end() -> None:
    assert slot(0, HOUR).covers(at(0))
    assert not slot(0, HOUR).covers(at(HOUR))


def test_at_the_border_of_touching_slots_the_later_one_is_current() -> None:
    first, second = slot(0, HOUR), slot(HOUR, 2 * HOUR)
    assert only(HOUR - 1, first, second).current == first
    assert only(HOUR, first, second).current == second


@pytest.mark.parametrize("now", [HOUR, HOUR + 299])
def test_between_two_slots_of_a_row_nothing_is_current(now: int) -> None:
    booking = only(now, slot(0, HOUR), slot(HOUR + 300, 2 * HOUR))
    assert booking.current is None
    assert booking.row_started_at == at(0)


@pytest.mark.parametrize("now", [HOUR, HOUR + 300])
def test_between_two_rows_no_booking_is_active(now: int) -> None:
    assert active(now, reservation(slot(0, HOUR), slot(HOUR + 301, 2 * HOUR))) == []


def test_of_overlapping_slots_the_one_that_ends_last_is_current() -> None:
    first, longer, later = slot(0, HOUR), slot(60, 2 * HOUR), slot(120, HOUR)
    assert only(180, first, longer, later).current == longer


def test_the_row_starts_with_its_first_slot_even_if_that_is_over() -> None:
    booking = only(2 * HOUR, slot(0, HOUR), slot(HOUR, 2 * HOUR), slot(2 * HOUR, 3 * HOUR))
    assert booking.row_started_at == at(0)


def test_an_earlier_row_does_not_count() -> None:
    assert only(3 * HOUR, slot(0, HOUR), slot(3 * HOUR, 4 * HOUR)).row_started_at == at(3 * HOUR)


def test_a_row_goes_across_reservations_of_one_user() -> None:
    now, after = slot(0, HOUR, of="r1"), slot(HOUR, 2 * HOUR, of="r2")
    (booking,) = active(60, reservation(after), reservation(now))
    assert booking.row == (now, after)
    assert booking.following(at(60), IN_ROW) == (after,)


def test_a_slot_listed_twice_counts_once() -> None:
    assert only(60, slot(0, HOUR), slot(0, HOUR)).slots == (slot(0, HOUR),)


FIRST, SECOND = slot(0, HOUR), slot(HOUR, 2 * HOUR)
AFTER_A_PAUSE, TOMORROW = slot(2 * HOUR + 300, 3 * HOUR), slot(24 * HOUR, 25 * HOUR)
DAY = (FIRST, SECOND, AFTER_A_PAUSE, TOMORROW)


def test_in_row_takes_the_unbroken_row_after_the_current_slot() -> None:
    assert only(60, *DAY).following(at(60), IN_ROW) == (SECOND, AFTER_A_PAUSE)


def test_all_takes_every_later_slot() -> None:
    assert only(60, *DAY).following(at(60), ALL) == (SECOND, AFTER_A_PAUSE, TOMORROW)


@pytest.mark.parametrize("mode", UnbookingMode)
def test_following_is_strictly_later(mode: UnbookingMode) -> None:
    booking = only(60, *DAY)
    assert SECOND in booking.following(at(HOUR - 0.001), mode)
    assert SECOND not in booking.following(at(HOUR), mode)


@pytest.mark.parametrize("mode", UnbookingMode)
def test_slots_that_are_over_never_follow(mode: UnbookingMode) -> None:
    assert FIRST not in only(HOUR, *DAY).following(at(HOUR), mode)


def test_an_overlapping_slot_that_starts_later_follows() -> None:
    overlapping = slot(1800, 2 * HOUR)
    assert only(60, FIRST, overlapping).following(at(60), IN_ROW) == (overlapping,)


@pytest.mark.parametrize("mode", UnbookingMode)
def test_another_users_slots_are_never_among_mine(mode: UnbookingMode) -> None:
    theirs = slot(HOUR, 2 * HOUR, of="r2")
    mine = slot(2 * HOUR, 3 * HOUR)
    (booking,) = active(60, reservation(slot(0, HOUR), mine), reservation(theirs, user=BORIS))
    assert booking.user == ANNA
    assert theirs not in booking.slots
    # Boris sits in between: more than the gap, so that Anna's row is broken.
    assert booking.following(at(60), IN_ROW) == ()
    assert booking.following(at(60), ALL) == (mine,)


def test_two_users_of_one_model_have_a_booking_each() -> None:
    both = active(60, reservation(slot(0, HOUR)), reservation(slot(30, HOUR, of="r2"), user=BORIS))
    assert {(booking.user, booking.row_started_at) for booking in both} == {(ANNA, at(0)), (BORIS, at(30))}


def test_one_user_of_two_models_has_a_booking_of_each_with_its_own_slots() -> None:
    fleet = Fleet((served(1), served(2, "other")))
    mine = slot(0, HOUR), slot(0, HOUR, of="r2")
    both = active(60, reservation(mine[0]), reservation(mine[1], name="other", model=2), fleet=fleet)
    assert {(booking.model.id.int, booking.slots) for booking in both} == {(1, (mine[0],)), (2, (mine[1],))}


TWINS = Fleet((served(2), served(1)))  # two instances of one name


def test_a_reservation_of_a_bare_name_counts_for_exactly_one_instance() -> None:
    (booking,) = active(60, reservation(slot(0, HOUR), model=None), fleet=TWINS)
    assert booking.model == served(1)


def test_a_reservation_of_an_instance_counts_for_that_one() -> None:
    (booking,) = active(60, reservation(slot(0, HOUR), model=2), fleet=TWINS)
    assert booking.model == served(2)


def test_a_bare_name_and_the_first_instance_are_one_row() -> None:
    named, bare = slot(0, HOUR), slot(HOUR, 2 * HOUR, of="r2")
    (booking,) = active(60, reservation(named, model=1), reservation(bare, model=None), fleet=TWINS)
    assert booking.row == (named, bare)


@pytest.mark.parametrize(("name", "model"), [("not running", None), ("not running", 3), (served().name, 3)])
def test_a_model_that_does_not_run_has_no_active_booking(name: str, model: int | None) -> None:
    assert active(60, reservation(slot(0, HOUR), name=name, model=model)) == []


def test_a_reservation_without_slots_is_no_active_booking() -> None:
    assert active(60, reservation()) == []


def test_replicas_of_instances_with_one_name_add_up() -> None:
    fleet = Fleet((served(1, replicas=2), served(2, replicas=3), served(3, "other")))
    assert fleet.replicas_by_name == {served().name: 5, "other": 1}
    assert fleet.by_id[served(3).id].name == "other"


def test_one_users_bookings_are_those_among_everybodys() -> None:
    fleet = Fleet((served(1), served(2)))
    booked = Bookings(
        (
            reservation(slot(0, HOUR)),
            reservation(slot(0, HOUR, of="r2"), user=BORIS),
            reservation(slot(0, HOUR, of="r3"), user=BORIS, model=2),
            reservation(slot(2 * HOUR, 3 * HOUR, of="r4"), user=BORIS, model=2),
        )
    )
    everybodys = active_bookings(fleet, booked, GAP, at(MINUTE))
    assert active_bookings(fleet, booked, GAP, at(MINUTE), BORIS.id) == [
        booking for booking in everybodys if booking.user == BORIS
    ]
    assert [len(booking.slots) for booking in active_bookings(fleet, booked, GAP, at(MINUTE), BORIS.id)] == [1, 2]
    assert len(everybodys) == 3


def test_rows_are_cut_once_for_the_same_bookings_and_fleet_and_anew_for_others() -> None:
    fleet, booked = Fleet((served(1),)), Bookings((reservation(slot(0, HOUR), slot(HOUR + 200, 2 * HOUR)),))
    (first,) = active_bookings(fleet, booked, GAP, at(0))
    (later,) = active_bookings(fleet, booked, GAP, at(HOUR + 300))
    assert first.row is later.row
    assert (first.current, later.current) == first.row
    (strict,) = active_bookings(fleet, booked, secs(60), at(0))
    assert strict.row == first.row[:1]
    assert active_bookings(Fleet((served(2),)), booked, GAP, at(0)) == []
    assert active_bookings(fleet, booked, GAP, at(0)) == [first]
