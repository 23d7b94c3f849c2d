"""The values that the fields of a line are read into."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from limiter.domain.command import Command
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.reservations import Reservation, Slot, User
from limiter.domain.snapshot import BookingKey
from limiter.recording.format import COMMAND, SPELL

uuid = cache(UUID)  # one object an id: equal ones are then found without a look at what they are


def time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def slot(fields: list[Any], reservation_id: str) -> Slot:
    start, end, id = fields
    return Slot(time(start), time(end), id, reservation_id)


def model(id: str, fields: list[Any]) -> ServedModel:
    name, replicas, *tags = fields
    return ServedModel(uuid(id), name, replicas, frozenset(*tags))


def command(id: str, fields: dict[str, Any]) -> Command:
    return COMMAND.validate_python(fields)


def spell(id: str, fields: dict[str, Any]) -> IdleSpell:
    return SPELL.validate_python(fields)


def closed(key: str, at: float) -> tuple[BookingKey, datetime]:
    model, user = key.split()
    return (uuid(model), uuid(user)), time(at)


def reservation(id: str, fields: list[Any]) -> Reservation:
    user, name, model, model_id, slots = fields
    held = tuple(slot(one, id) for one in slots)
    return Reservation(id, User(uuid(user), name), model, uuid(model_id) if model_id else None, held)


COLLECT: dict[str, Callable[[Iterable[Any]], Any]] = {
    "fleet": lambda models: Fleet(tuple(models)),
    "commands": lambda commands: {command.model_id: command for command in commands},
    "spells": lambda spells: {spell.key: spell for spell in spells},
    "closed": dict,
    "reservations": tuple,
}
