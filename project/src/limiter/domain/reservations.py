"""Who has booked which model when."""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

from limiter.domain.fleet import ServedModel


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


@dataclass(frozen=True)
class Bookings:
    """Every reservation that matters now or later.

    A model whose name, or id, is in `unreadable` has one that could not be understood.
    """

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
    def derived(self) -> dict[str, Any]:
        """What `active_bookings` derived, kept for the next snapshot of the same bookings."""
        return {}

    def following(self, before: "Bookings") -> "Bookings":
        """These, with what was derived of those that were read before: most of it holds still."""
        self.derived.update(before.derived)
        return self

    @cached_property
    def by_id(self) -> Mapping[str, Reservation]:
        return {reservation.id: reservation for reservation in self.reservations}

    def readable(self, model_id: UUID, name: str) -> bool:
        """Whether all reservations of the model could be understood."""
        return not self.unreadable or (name not in self.unreadable and str(model_id) not in self.unreadable)

    def with_one(self, id: str, reservation: Reservation | None) -> "Bookings":
        """The same with one reservation as it was just read; None: it is gone."""
        if self.by_id.get(id) == reservation:
            return self
        others = tuple(one for one in self.reservations if one.id != id)
        return Bookings(others if reservation is None else (*others, reservation), self.unreadable)

    def of_models(self, ids: Container[UUID], minded: Callable[[str], bool]) -> "Bookings":
        """The reservations of these models, and of every model whose name is minded here."""
        kept = (one for one in self.reservations if one.model_id in ids or minded(one.model_name))
        return Bookings(tuple(kept), self.unreadable)

    def of_user(self, user_id: UUID) -> "Bookings":
        """The reservations of one user."""
        return Bookings(tuple(one for one in self.reservations if one.user.id == user_id), self.unreadable)


def other_users_claim(
    model: ServedModel, user_id: UUID, bookings: Bookings, guard: timedelta, now: datetime
) -> tuple[bool, bool]:
    """Whether another user's slot of this model runs now, and whether one's slot of it starts within `guard`."""
    theirs = [slot for of, slot in _slots_of(model, bookings) if of != user_id]
    return any(slot.covers(now) for slot in theirs), any(now < slot.start <= now + guard for slot in theirs)


def own_slot_soon(model: ServedModel, user_id: UUID, bookings: Bookings, guard: timedelta, now: datetime) -> bool:
    """Whether a slot of this model of the user himself starts within `guard`."""
    own = (slot for of, slot in _slots_of(model, bookings) if of == user_id)
    return any(now < slot.start <= now + guard for slot in own)


def barred(model: ServedModel, user_id: UUID, bookings: Bookings, guard: timedelta) -> list[tuple[datetime, datetime]]:
    """When slots of the model forbid its uninstall on account of this user, half open; his own that run do not."""
    return [(slot.start - guard, slot.end if of != user_id else slot.start) for of, slot in _slots_of(model, bookings)]


def _slots_of(model: ServedModel, bookings: Bookings) -> Iterator[tuple[UUID, Slot]]:
    """Every slot of the model and whose it is; one of a bare name may be of any instance, so it counts for each."""
    for reservation in bookings.by_model.get(model.id, ()) + bookings.by_model.get(model.name, ()):
        for slot in reservation.slots:
            yield reservation.user.id, slot
