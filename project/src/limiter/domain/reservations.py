"""Who has booked which model when: holders, unbroken rows of slots, and what a cancelling takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from uuid import UUID

from limiter.domain.fleet import Fleet, ServedModel


class UnbookingMode(StrEnum):
    """IN_ROW: the unbroken row after the current slot; ALL: every later slot of that user and model."""

    IN_ROW = "IN_ROW"
    ALL = "ALL"


@dataclass(frozen=True, slots=True)
class User:
    """Who booked; bookings carry no e-mail address."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One booked stretch of time, half open: it covers start and ends just before end."""

    start: datetime
    end: datetime
    id: str
    reservation_id: str

    def covers(self, now: datetime) -> bool:
        return self.start <= now < self.end


@dataclass(frozen=True, slots=True)
class Reservation:
    """One reservation of a model by a user; without a model_id it is of any instance of that name."""

    id: str
    user: User
    model_name: str
    model_id: UUID | None
    slots: tuple[Slot, ...]


_Span = tuple[datetime, datetime, tuple[Slot, ...]]  # an unbroken row, with its beginning and end
_Holder = tuple[ServedModel, User, tuple[Slot, ...], list[_Span]]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of every holder of a fleet's models."""

    fleet: Fleet
    holders: list[_Holder]


@dataclass(frozen=True)
class Bookings:
    """Every reservation that matters now or later; a name in `unreadable` has one that could not be understood."""

    reservations: tuple[Reservation, ...]
    unreadable: frozenset[str] = frozenset()

    @cached_property
    def by_model(self) -> Mapping[UUID | str, tuple[Reservation, ...]]:
        """By the model's id where the reservation says it, else by the model's name."""
        found: dict[UUID | str, list[Reservation]] = {}
        for reservation in self.reservations:
            found.setdefault(reservation.model_id or reservation.model_name, []).append(reservation)
        return {model: tuple(of) for model, of in found.items()}

    @cached_property
    def rows_of(self) -> dict[timedelta, _Rows]:
        """The rows by the gap that they were cut by, kept for the next look at the same bookings."""
        return {}

    @cached_property
    def by_id(self) -> Mapping[str, Reservation]:
        return {reservation.id: reservation for reservation in self.reservations}


@dataclass(frozen=True, slots=True)
class Holding:
    """One user's hold on one running model: the row of slots that covers now, and everything after."""

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
class Cancellation:
    """One DELETE: a whole reservation, or a single slot of one."""

    reservation_id: str
    slots: tuple[Slot, ...]
    whole: bool


def holdings(fleet: Fleet, bookings: Bookings, gap: timedelta, now: datetime, of: UUID | None = None) -> list[Holding]:
    """Every hold on a running model now, or those `of` one user; in a gap between two slots `current` is None."""
    if of is not None:
        theirs = Bookings(tuple(one for one in bookings.reservations if one.user.id == of))
        return holdings(fleet, theirs, gap, now)
    cut = bookings.rows_of.get(gap)
    if cut is None or cut.fleet is not fleet:
        cut = bookings.rows_of[gap] = _Rows(fleet, _rows_by_holder(fleet, bookings, gap))
    holds = (_holding(*holder, now) for holder in cut.holders)
    return [hold for hold in holds if hold is not None]


def _rows_by_holder(fleet: Fleet, bookings: Bookings, gap: timedelta) -> list[_Holder]:
    found: dict[tuple[UUID, UUID], tuple[ServedModel, User, list[Slot]]] = {}
    for reservation in bookings.reservations:
        model = _held_instance(fleet, reservation)
        if model is not None:
            key = (model.id, reservation.user.id)
            found.setdefault(key, (model, reservation.user, []))[2].extend(reservation.slots)
    holders = []
    for model, user, slots in found.values():
        ordered = tuple(sorted(set(slots)))
        spans = [(row[0].start, max(slot.end for slot in row), row) for row in rows(ordered, gap)]
        holders.append((model, user, ordered, spans))
    return holders


def _held_instance(fleet: Fleet, reservation: Reservation) -> ServedModel | None:
    """The instance a reservation is of; one of a bare name counts for the first instance, so that it counts once."""
    if reservation.model_id is not None:
        return fleet.by_id.get(reservation.model_id)
    of_name = fleet.by_name.get(reservation.model_name, ())
    return of_name[0] if of_name else None


def _holding(
    model: ServedModel, user: User, ordered: tuple[Slot, ...], spans: list[_Span], now: datetime
) -> Holding | None:
    for start, end, row in spans:
        if start <= now < end:
            covering = [slot for slot in row if slot.covers(now)]
            return Holding(model, user, ordered, row, max(covering, key=lambda slot: slot.end, default=None))
    return None


def rows(slots: Sequence[Slot], gap: timedelta) -> list[tuple[Slot, ...]]:
    """Slots in order of start, cut into unbroken rows: a pause of up to `gap` does not break one."""
    cut: list[list[Slot]] = []
    for slot in slots:
        if cut and slot.start - max(other.end for other in cut[-1]) <= gap:
            cut[-1].append(slot)
        else:
            cut.append([slot])
    return [tuple(row) for row in cut]


def cancellations(bookings: Bookings, slots: Sequence[Slot]) -> list[Cancellation]:
    """The DELETEs that remove these slots: a whole reservation when all its slots go, else slot by slot."""
    by_reservation: dict[str, list[Slot]] = {}
    for slot in sorted(slots):
        by_reservation.setdefault(slot.reservation_id, []).append(slot)
    steps: list[Cancellation] = []
    for reservation_id, going in by_reservation.items():
        booked = bookings.by_id.get(reservation_id)
        if booked is not None and {slot.id for slot in booked.slots} == {slot.id for slot in going}:
            steps.append(Cancellation(reservation_id, tuple(going), whole=True))
        else:
            steps.extend(Cancellation(reservation_id, (slot,), whole=False) for slot in going)
    return steps


def other_users_claim(
    model: ServedModel, user_id: UUID, bookings: Bookings, guard: timedelta, now: datetime
) -> tuple[bool, bool]:
    """Whether another user holds this model now, and whether one's slot of it starts within `guard`."""
    theirs = [
        slot
        for reservation in bookings.by_model.get(model.id, ()) + bookings.by_model.get(model.name, ())
        if reservation.user.id != user_id
        for slot in reservation.slots
    ]
    return any(slot.covers(now) for slot in theirs), any(now < slot.start <= now + guard for slot in theirs)
