"""Who has booked a running model now: unbroken rows of slots, and the row that covers now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.reservations import Bookings, Reservation, Slot, UnbookingMode, User


@dataclass(frozen=True, slots=True)
class ActiveBooking:
    """One user's booking of one running model: the row of slots that covers now, and everything after."""

    model: ServedModel
    user: User
    slots: tuple[Slot, ...]
    row: tuple[Slot, ...]
    current: Slot | None

    @property
    def row_started_at(self) -> datetime:
        return self.row[0].start

    def following(self, now: datetime, mode: UnbookingMode) -> tuple[Slot, ...]:
        """The later slots that a cancelling in this mode takes; never the current one."""
        later = self.row if mode is UnbookingMode.IN_ROW else self.slots
        return tuple(slot for slot in later if slot.start > now)


@dataclass(frozen=True, slots=True)
class _UserRows:
    """All slots of one user and model in order, and the same cut into rows, each with its beginning and end."""

    model: ServedModel
    user: User
    slots: tuple[Slot, ...]
    rows: list[tuple[datetime, datetime, tuple[Slot, ...]]]


def active_bookings(
    fleet: Fleet, bookings: Bookings, gap: timedelta, now: datetime, of: UUID | None = None
) -> list[ActiveBooking]:
    """Every booking of a running model now, or those `of` one user; in a gap between two slots `current` is None."""
    if of is not None:
        bookings = Bookings(tuple(one for one in bookings.reservations if one.user.id == of))
    found = bookings.derived.get(gap)
    if found is None or found[0] is not fleet:
        found = bookings.derived[gap] = (fleet, _rows_by_user(fleet, bookings, gap))
    active = (_active(one, now) for one in found[1])
    return [booking for booking in active if booking is not None]


def _rows_by_user(fleet: Fleet, bookings: Bookings, gap: timedelta) -> list[_UserRows]:
    found: dict[tuple[UUID, UUID], tuple[ServedModel, User, list[Slot]]] = {}
    for reservation in bookings.reservations:
        model = _instance_of(fleet, reservation)
        if model is not None:
            key = (model.id, reservation.user.id)
            found.setdefault(key, (model, reservation.user, []))[2].extend(reservation.slots)
    result = []
    for model, user, slots in found.values():
        ordered = tuple(sorted(set(slots)))
        cut = [(row[0].start, max(slot.end for slot in row), row) for row in rows(ordered, gap)]
        result.append(_UserRows(model, user, ordered, cut))
    return result


def _instance_of(fleet: Fleet, reservation: Reservation) -> ServedModel | None:
    """The instance a reservation is of; one of a bare name counts for the first instance, so that it counts once."""
    if reservation.model_id is not None:
        return fleet.by_id.get(reservation.model_id)
    of_name = fleet.by_name.get(reservation.model_name, ())
    return of_name[0] if of_name else None


def _active(booked: _UserRows, now: datetime) -> ActiveBooking | None:
    for start, end, row in booked.rows:
        if start <= now < end:
            covering = [slot for slot in row if slot.covers(now)]
            current = max(covering, key=lambda slot: slot.end, default=None)
            return ActiveBooking(booked.model, booked.user, booked.slots, row, current)
    return None


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
