"""A reservation as BookingService sends it; its times are Unix seconds."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated
from uuid import UUID

import msgspec
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from limiter.clients.decoding import LONGEST, Key
from limiter.domain.reservations import Reservation, Slot, User

MOST = 1_000_000  # reservations: an answer that announces more is broken, not large
LATEST = 253_402_300_799  # the last second that a datetime can hold


class _User(BaseModel):
    id: UUID
    name: Key


class _Slot(BaseModel):
    id: Key = Field(min_length=1)
    start: int = Field(ge=0, le=LATEST)
    end: int = Field(ge=0, le=LATEST)


class WireReservation(BaseModel):
    id: Key = Field(min_length=1)
    user: _User
    model_name: Key
    model_id: UUID | None = None
    slots: list[_Slot]


class _OfModel(BaseModel):
    model_id: UUID


class WirePage(BaseModel):
    items: list[object]
    total: int = Field(ge=0, le=MOST)


PAGE = TypeAdapter(WirePage)
ONE = TypeAdapter(WireReservation)

# The same once more, for whole pages at once, in a tenth of the time: what they do not take is read one by one.
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST)]
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST)]
_Second = Annotated[int, msgspec.Meta(ge=0, le=LATEST)]


class _SoundUser(msgspec.Struct, gc=False):
    id: UUID
    name: _Name


class _SoundSlot(msgspec.Struct, gc=False):
    id: _Text
    start: _Second
    end: _Second


class _SoundReservation(msgspec.Struct, gc=False):
    id: _Text
    user: _SoundUser
    model_name: _Name
    slots: list[_SoundSlot]
    model_id: UUID | None = None


class _SoundPage(msgspec.Struct, gc=False):
    items: list[_SoundReservation]
    total: Annotated[int, msgspec.Meta(ge=0, le=MOST)]


_SOUND = msgspec.json.Decoder(_SoundPage)


def sound_page(raw: bytes) -> tuple[int, list[Reservation]] | None:
    """The announced total and all reservations of a page; None if something on it is not as it should be."""
    try:
        page = _SOUND.decode(raw)
        return page.total, [to_domain(one) for one in page.items]
    except (msgspec.MsgspecError, ValueError):
        return None


def to_domain(wire: WireReservation | _SoundReservation) -> Reservation:
    """The reservation; raises ValueError if a slot ends before it starts, or stands twice."""
    slots = tuple(Slot(_time(slot.start), _time(slot.end), slot.id, wire.id) for slot in wire.slots)
    backwards = next((slot.id for slot in slots if slot.end <= slot.start), None)
    if backwards is not None:
        raise ValueError(f"slot {backwards} of reservation {wire.id} ends before it starts")
    if len({slot.id for slot in slots}) < len(slots):  # a DELETE of one would take the other with it
        raise ValueError(f"slot {_twice(slots)} stands twice in reservation {wire.id}")
    return Reservation(wire.id, User(wire.user.id, wire.user.name), wire.model_name, wire.model_id, slots)


def model_id_of(item: object) -> UUID | None:
    """The model's id of an entry that cannot be understood otherwise."""
    try:
        return _OfModel.model_validate(item).model_id
    except ValidationError:
        return None


def _twice(slots: Sequence[Slot]) -> str:
    ids = [slot.id for slot in slots]
    return next(id for id in ids if ids.count(id) > 1)


@lru_cache(maxsize=100_000)  # slots begin and end at round times, many at the same
def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
