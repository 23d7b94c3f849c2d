"""A reservation as BookingService sends it; its times are Unix seconds."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter

from limiter.clients.decoding import Storable
from limiter.domain.reservations import Reservation, Slot, User

MOST = 1_000_000  # reservations: an answer that announces more is broken, not large
LATEST = 253_402_300_799  # the last second that a datetime can hold


class _User(BaseModel):
    id: UUID
    name: Storable


class _Slot(BaseModel):
    id: Storable = Field(min_length=1)
    start: int = Field(ge=0, le=LATEST)
    end: int = Field(ge=0, le=LATEST)


class WireReservation(BaseModel):
    id: Storable = Field(min_length=1)
    user: _User
    model_name: Storable
    model_id: UUID | None = None
    slots: list[_Slot]


class WirePage(BaseModel):
    items: list[object]
    total: int = Field(ge=0, le=MOST)


PAGE = TypeAdapter(WirePage)
ONE = TypeAdapter(WireReservation)


def to_domain(wire: WireReservation) -> Reservation:
    slots = tuple(Slot(_time(slot.start), _time(slot.end), slot.id, wire.id) for slot in wire.slots)
    backwards = next((slot.id for slot in slots if slot.end <= slot.start), None)
    if backwards is not None:
        raise ValueError(f"slot {backwards} of reservation {wire.id} ends before it starts")
    twice = next((id for id, count in Counter(slot.id for slot in slots).items() if count > 1), None)
    if twice is not None:  # a DELETE of one would take the other with it
        raise ValueError(f"slot {twice} stands twice in reservation {wire.id}")
    return Reservation(wire.id, User(wire.user.id, wire.user.name), wire.model_name, wire.model_id, slots)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
