"""What a user has booked of one running model: all his slots, unbroken rows, and the slot that covers now."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.reservations import Bookings, Reservation, Slot, User

_place = attrgetter("start", "end", "id", "reservation_id")  # the order of slots, which compare slowly themselves
BookingKey = tuple[UUID, UUID]  # whose booking it is: the model's id and the user's
GapOf = Callable[[str], timedelta]  # a model's name -> the pause up to which a row of its slots is unbroken


@dataclass(frozen=True, slots=True)
class ActiveBooking:
    """One user's slots of one running model in order; `row` covers now (empty: none does), `current` runs now."""

    model: ServedModel
    user: User
    slots: tuple[Slot, ...]
    row: tuple[Slot, ...]
    current: Slot | None

    def ends_after(self, at: datetime) -> bool:
        """Whether a slot ends after the moment."""
        return any(slot.end > at for slot in self.slots)

    def still_booked(self, named: Iterable[Slot], now: datetime) -> tuple[Slot, ...]:
        """Those of the slots that are still the user's, and not over."""
        booked = {(slot.reservation_id, slot.id): slot for slot in self.slots if slot.end > now}
        found = (booked.get((slot.reservation_id, slot.id)) for slot in named)
        return tuple(slot for slot in found if slot is not None)


@dataclass(frozen=True, slots=True)
class UserSlots:
    """All slots of one user and model in order, and the same cut into rows, each with its beginning and end."""

    model: ServedModel
    user: User
    slots: tuple[Slot, ...]
    rows: list[tuple[datetime, datetime, tuple[Slot, ...]]]

    def at(self, now: datetime) -> ActiveBooking:
        """The booking as it stands now."""
        for start, end, row in self.rows:
            if start <= now < end:
                covering = [slot for slot in row if slot.covers(now)]
                current = max(covering, key=lambda slot: slot.end, default=None)
                return ActiveBooking(self.model, self.user, self.slots, row, current)
        return ActiveBooking(self.model, self.user, self.slots, (), None)


class _Derived(NamedTuple):
    """What was derived, and of what: to know whether it is still so, and what of it."""

    reservations: tuple[Reservation, ...]
    fleet: Fleet
    gap_of: GapOf
    sources: dict[BookingKey, list[Reservation]]
    found: dict[BookingKey, UserSlots]


def slots_by_user(fleet: Fleet, bookings: Bookings, gap_of: GapOf) -> dict[BookingKey, UserSlots]:
    """The slots of every user and running model, by the model's id and the user's; kept while they are the same."""
    last: _Derived | None = bookings.derived.get("slots by user")
    if last is None or last.gap_of != gap_of:
        last = _Derived((), fleet, gap_of, {}, {})
    if last.reservations is not bookings.reservations or last.fleet is not fleet:
        last = bookings.derived["slots by user"] = _slots_by_user(fleet, bookings.reservations, last)
    return last.found


def _slots_by_user(fleet: Fleet, reservations: tuple[Reservation, ...], last: _Derived) -> _Derived:
    models: dict[BookingKey, ServedModel] = {}
    sources: dict[BookingKey, list[Reservation]] = {}
    for reservation in reservations:
        model = _instance_of(fleet, reservation)
        if model is not None:
            key = (model.id, reservation.user.id)
            models.setdefault(key, model)
            sources.setdefault(key, []).append(reservation)
    found = {}
    for key, model in models.items():
        known = last.found[key] if last.sources.get(key) == sources[key] else None
        if known is None or known.model.name != model.name:
            found[key] = _user_slots(model, sources[key], last.gap_of(model.name))
        else:
            found[key] = known if known.model is model else replace(known, model=model)
    return _Derived(reservations, fleet, last.gap_of, sources, found)


def _user_slots(model: ServedModel, reservations: Sequence[Reservation], gap: timedelta) -> UserSlots:
    once = {_place(slot): slot for reservation in reservations for slot in reservation.slots}
    ordered = tuple(once[place] for place in sorted(once))
    cut = [(row[0].start, max(slot.end for slot in row), row) for row in rows(ordered, gap)]
    return UserSlots(model, reservations[0].user, ordered, cut)


def _instance_of(fleet: Fleet, reservation: Reservation) -> ServedModel | None:
    """The instance a reservation is of; one of a bare name counts for the first instance, so that it counts once."""
    if reservation.model_id is not None:
        return fleet.by_id.get(reservation.model_id)
    of_name = fleet.by_name.get(reservation.model_name, ())
    return of_name[0] if of_name else None


def booked_now(fleet: Fleet, bookings: Bookings, now: datetime) -> frozenset[UUID]:
    """The running models of which somebody's slot runs now."""
    running = (one for one in bookings.reservations if any(slot.covers(now) for slot in one.slots))
    models = (_instance_of(fleet, reservation) for reservation in running)
    return frozenset(model.id for model in models if model is not None)


def rows(slots: Sequence[Slot], gap: timedelta) -> list[tuple[Slot, ...]]:
    """Slots in order of start, cut into unbroken rows: a pause of up to `gap` does not break one."""
    cut: list[list[Slot]] = []
    end: datetime | None = None
    for slot in slots:
        if end is not None and slot.start - end <= gap:
            cut[-1].append(slot)
            end = max(end, slot.end)
        else:
            cut.append([slot])
            end = slot.end
    return [tuple(row) for row in cut]
