"""Who has booked which running model now: rows of slots, their borders, and whose they are."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter.domain.active_bookings import ActiveBooking, rows, slots_by_user
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.reservations import Bookings, Reservation, Slot
from tests.unit.domain.build import ANNA, BORIS, HOUR, MINUTE, NAME, at, booking, reservation, secs, served, slot

GAP = secs(5 * MINUTE)
KEY = (served().id, ANNA.id)


def gap_of(name: str) -> timedelta:
    return GAP


def strict_of(name: str) -> timedelta:
    return GAP if name == NAME else secs(60)


def active(now: float, *reservations: Reservation, fleet: Fleet | None = None) -> list[ActiveBooking]:
    """The bookings of which a slot, or a short pause in a row, runs now."""
    users = slots_by_user(fleet or Fleet((served(),)), Bookings(reservations), gap_of)
    return [found for found in (slots.at(at(now)) for slots in users.values()) if found.row]


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
    between = only(now, slot(0, HOUR), slot(HOUR + 300, 2 * HOUR))
    assert between.current is None
    assert between.row[0].start == at(0)


@pytest.mark.parametrize("now", [HOUR, HOUR + 300])
def test_between_two_rows_no_booking_is_active_and_all_its_slots_are_known(now: int) -> None:
    booked = reservation(slot(0, HOUR), slot(HOUR + 301, 2 * HOUR))
    assert active(now, booked) == []
    between = slots_by_user(Fleet((served(),)), Bookings((booked,)), gap_of)[KEY].at(at(now))
    assert (between.row, between.current, between.slots) == ((), None, booked.slots)


def test_of_overlapping_slots_the_one_that_ends_last_is_current() -> None:
    first, longer, later = slot(0, HOUR), slot(60, 2 * HOUR), slot(120, HOUR)
    assert only(180, first, longer, later).current == longer


def test_a_row_lasts_as_long_as_its_longest_slot() -> None:
    long, inside = slot(0, 4 * HOUR), slot(HOUR, 2 * HOUR)
    assert only(4 * HOUR - 1, long, inside).row == (long, inside)
    assert active(4 * HOUR, reservation(long, inside)) == []


def test_the_row_starts_with_its_first_slot_even_if_that_is_over() -> None:
    booked = only(2 * HOUR, slot(0, HOUR), slot(HOUR, 2 * HOUR), slot(2 * HOUR, 3 * HOUR))
    assert booked.row[0].start == at(0)


def test_an_earlier_row_is_no_part_of_this_one_and_is_known_still() -> None:
    booked = only(3 * HOUR, slot(0, HOUR), slot(3 * HOUR, 4 * HOUR))
    assert booked.row == (slot(3 * HOUR, 4 * HOUR),)
    assert booked.slots == (slot(0, HOUR), slot(3 * HOUR, 4 * HOUR))


def test_a_row_goes_across_reservations_of_one_user() -> None:
    now, after = slot(0, HOUR, of="r1"), slot(HOUR, 2 * HOUR, of="r2")
    (booked,) = active(60, reservation(after), reservation(now))
    assert booked.row == booked.slots == (now, after)


def test_a_slot_listed_twice_counts_once() -> None:
    assert only(60, slot(0, HOUR), slot(0, HOUR)).slots == (slot(0, HOUR),)


def test_another_users_slots_are_never_among_mine_and_break_my_row() -> None:
    theirs, mine = slot(HOUR, 2 * HOUR, of="r2"), slot(2 * HOUR, 3 * HOUR)
    (booked,) = active(60, reservation(slot(0, HOUR), mine), reservation(theirs, user=BORIS))
    assert booked.user == ANNA
    assert booked.slots == (slot(0, HOUR), mine)
    assert booked.row == (slot(0, HOUR),)


def test_two_users_of_one_model_have_a_booking_each() -> None:
    both = active(60, reservation(slot(0, HOUR)), reservation(slot(30, HOUR, of="r2"), user=BORIS))
    assert {(booked.user, booked.row[0].start) for booked in both} == {(ANNA, at(0)), (BORIS, at(30))}


def test_one_user_of_two_models_has_a_booking_of_each_with_its_own_slots() -> None:
    fleet = Fleet((served(1), served(2, "other")))
    mine = slot(0, HOUR), slot(0, HOUR, of="r2")
    both = active(60, reservation(mine[0]), reservation(mine[1], name="other", model=2), fleet=fleet)
    assert {(booked.model.id.int, booked.slots) for booked in both} == {(1, (mine[0],)), (2, (mine[1],))}


TWINS = Fleet((served(2), served(1)))  # two instances of one name


def test_a_reservation_of_a_bare_name_counts_for_exactly_one_instance() -> None:
    (booked,) = active(60, reservation(slot(0, HOUR), model=None), fleet=TWINS)
    assert booked.model == served(1)


def test_a_reservation_of_an_instance_counts_for_that_one() -> None:
    (booked,) = active(60, reservation(slot(0, HOUR), model=2), fleet=TWINS)
    assert booked.model == served(2)


def test_a_bare_name_and_the_first_instance_are_one_row() -> None:
    named, bare = slot(0, HOUR), slot(HOUR, 2 * HOUR, of="r2")
    (booked,) = active(60, reservation(named, model=1), reservation(bare, model=None), fleet=TWINS)
    assert booked.row == (named, bare)


@pytest.mark.parametrize(("name", "model"), [("not running", None), ("not running", 3), (served().name, 3)])
def test_a_model_that_does_not_run_has_no_active_booking(name: str, model: int | None) -> None:
    assert active(60, reservation(slot(0, HOUR), name=name, model=model)) == []


def test_a_reservation_without_slots_is_no_active_booking() -> None:
    assert active(60, reservation()) == []


def test_every_users_slots_are_found_by_the_model_and_the_user() -> None:
    fleet = Fleet((served(1), served(2)))
    booked = Bookings(
        (
            reservation(slot(0, HOUR)),
            reservation(slot(0, HOUR, of="r2"), user=BORIS),
            reservation(slot(0, HOUR, of="r3"), user=BORIS, model=2),
            reservation(slot(2 * HOUR, 3 * HOUR, of="r4"), user=BORIS, model=2),
        )
    )
    users = slots_by_user(fleet, booked, gap_of)
    one, two = served(1).id, served(2).id
    assert {key: len(found.slots) for key, found in users.items()} == {
        (one, ANNA.id): 1,
        (one, BORIS.id): 1,
        (two, BORIS.id): 2,
    }
    assert [len(found.row) for found in (slots.at(at(MINUTE)) for slots in users.values())] == [1, 1, 1]
    assert slots_by_user(fleet, booked.of_user(BORIS.id), gap_of) == {
        key: found for key, found in users.items() if key[1] == BORIS.id
    }


def test_each_models_rows_are_cut_by_its_own_gap() -> None:
    fleet = Fleet((served(1), served(2, "strict")))
    pause = slot(0, HOUR), slot(HOUR + 200, 2 * HOUR)
    booked = Bookings((reservation(*pause), reservation(*pause, name="strict", model=2, id="r2")))
    users = slots_by_user(fleet, booked, strict_of)
    assert [len(slots.at(at(0)).row) for slots in users.values()] == [2, 1]


def test_rows_are_cut_once_for_the_same_bookings_and_fleet_and_anew_for_others() -> None:
    fleet, booked = Fleet((served(1),)), Bookings((reservation(slot(0, HOUR), slot(HOUR + 200, 2 * HOUR)),))
    users = slots_by_user(fleet, booked, gap_of)
    assert slots_by_user(fleet, booked, gap_of) is users
    first, later = users[KEY].at(at(0)), users[KEY].at(at(HOUR + 300))
    assert first.row is later.row
    assert (first.current, later.current) == first.row
    strict = slots_by_user(fleet, booked, lambda name: secs(60))[KEY].at(at(0))
    assert strict.row == first.row[:1]
    assert slots_by_user(Fleet((served(2),)), booked, gap_of) == {}
    again = slots_by_user(fleet, booked, gap_of)
    assert again == users


OWNERS = st.tuples(st.sampled_from((ANNA, BORIS)), st.sampled_from((None, 1, 2)))
SLOTS = st.lists(st.sampled_from((0, HOUR, HOUR + 200, 3 * HOUR)), min_size=1, max_size=3, unique=True)
BOOKED = st.dictionaries(st.sampled_from("abc"), st.tuples(OWNERS, SLOTS), max_size=3)
FLEETS = st.sets(st.tuples(st.integers(1, 2), st.sampled_from((NAME, "strict")), st.integers(1, 2)), max_size=3)


@given(st.lists(st.tuples(BOOKED, FLEETS, st.sampled_from((gap_of, strict_of))), max_size=5))
def test_what_follows_other_bookings_is_what_it_would_be_without_them(readings: list[Any]) -> None:
    last = Bookings(())
    for booked, models, gap in readings:
        fleet = Fleet(tuple(served(*one) for one in {one[0]: one for one in sorted(models)}.values()))
        found = tuple(
            reservation(*(slot(start, start + HOUR, of=id) for start in sorted(starts)), user=user, model=model, id=id)
            for id, ((user, model), starts) in booked.items()
        )
        last = Bookings(found).following(last)
        assert slots_by_user(fleet, last, gap) == slots_by_user(fleet, Bookings(found), gap)


def test_of_bookings_that_follow_others_only_what_has_changed_is_derived() -> None:
    fleet, his = Fleet((served(),)), reservation(slot(0, HOUR, of="r2"), user=BORIS)
    before = Bookings((reservation(slot(0, HOUR)), his))
    first = slots_by_user(fleet, before, gap_of)
    after = Bookings((reservation(slot(0, 2 * HOUR)), his)).following(before)
    second = slots_by_user(fleet, after, gap_of)
    assert second[KEY] != first[KEY]
    assert second[KEY[0], BORIS.id] is first[KEY[0], BORIS.id]


@pytest.mark.parametrize("model", [served(name="strict"), served(replicas=2)], ids=["another gap", "replicas"])
def test_of_bookings_that_follow_others_what_has_another_model_is_as_of_that_one(model: ServedModel) -> None:
    row = (reservation(slot(0, HOUR), slot(HOUR + 200, 2 * HOUR)),)
    before = Bookings(row)
    slots_by_user(Fleet((served(),)), before, strict_of)
    after = slots_by_user(Fleet((model,)), Bookings(row).following(before), strict_of)
    assert after == slots_by_user(Fleet((model,)), Bookings(row), strict_of)


ONE, TWO, THREE = slot(0, HOUR), slot(2 * HOUR, 3 * HOUR), slot(4 * HOUR, 5 * HOUR)


@pytest.mark.parametrize(("now", "after"), [(0, True), (5 * HOUR - 1, True), (5 * HOUR, False)])
def test_a_booking_ends_with_its_last_slot_whatever_its_row(now: float, after: bool) -> None:
    assert booking(ONE, later=[TWO, THREE]).ends_after(at(now)) is after


def test_a_booking_without_slots_is_over() -> None:
    assert not booking().ends_after(at(0))


@pytest.mark.parametrize(
    ("now", "left"),
    [(0, (TWO, THREE)), (3 * HOUR - 1, (TWO, THREE)), (3 * HOUR, (THREE,)), (5 * HOUR, ())],
)
def test_a_slot_is_still_booked_until_it_ends(now: float, left: tuple[Slot, ...]) -> None:
    assert booking(ONE, later=[TWO, THREE]).still_booked((TWO, THREE), at(now)) == left


def test_only_the_asked_for_slots_are_still_booked_each_by_both_ids() -> None:
    booked = booking(ONE, later=[TWO, THREE])
    assert booked.still_booked((THREE,), at(0)) == (THREE,)
    assert booked.still_booked((), at(0)) == ()
    elsewhere = slot(4 * HOUR, 5 * HOUR, id=THREE.id, of="r2")
    unknown = slot(4 * HOUR, 5 * HOUR, id="another")
    assert booked.still_booked((elsewhere, unknown), at(0)) == ()


def test_a_slot_whose_times_were_changed_is_the_same_slot_as_it_is_now() -> None:
    moved = slot(6 * HOUR, 7 * HOUR, id=THREE.id)
    assert booking(ONE, later=[moved]).still_booked((THREE,), at(0)) == (moved,)
