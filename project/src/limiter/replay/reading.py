"""Reads a recording back, line by line, into the values that the jobs had."""

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from limiter.domain.action import Command, Job
from limiter.domain.audit import Finding
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.idleness import Spell
from limiter.domain.reservations import Bookings, Reservation, Slot, User
from limiter.domain.survey import Holder
from limiter.domain.usage import Page, Scrape, Unknown, Unread
from limiter.recording import COMMAND, FINDINGS, SPELL, START, VERSION, Deltas, Start


class WrongRecording(Exception):
    """A line of a recording that cannot be read; the text names file, line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Began:
    """The beginning of one process's lines."""

    settings: dict[str, Any]
    start: Start


@dataclass(frozen=True, slots=True)
class Tick:
    """One run of rps_check; `fleet` is None if the registry did not answer."""

    at: datetime
    scrapes: tuple[Scrape, ...]
    fleet: Fleet | None
    commands: dict[UUID, Command]
    found: list[Finding]


@dataclass(frozen=True, slots=True)
class Look:
    """One look of an idle job; `of` is whom it was taken for, None for the sweep over all."""

    of: Holder | None
    at: datetime
    basis: float | None
    scrapes: tuple[Scrape, ...]
    fleet: Fleet
    bookings: Bookings
    spells: dict[Holder, Spell]
    closed: dict[Holder, datetime]
    resumed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Idle:
    """One run of an idle job, with the slots it cancelled."""

    job: Job
    at: datetime
    looks: list[Look]
    found: list[Finding]
    cancelled: list[tuple[Holder, Slot]]


Line = Began | Tick | Idle


def read(path: Path) -> Iterator[Line]:
    """Every line of the file, in order; raises WrongRecording, or OSError."""
    readers: dict[str, Reader] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for number, raw in enumerate(file, 1):
            try:
                line = json.loads(raw)
                reader = readers.setdefault(line["by"], Reader())
                yield reader.read(line)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise WrongRecording(f"{path}:{number}: {type(error).__name__}: {error}") from error


class Reader:
    """The lines of one process, each of which tells what changed since the one before."""

    def __init__(self) -> None:
        self._deltas = Deltas()
        self._next = 0
        self._made: dict[str, tuple[Any, dict[str, Any], Any]] = {}
        self._bookings = Bookings(())

    def read(self, line: dict[str, Any]) -> Line:
        if line["v"] != VERSION:
            raise ValueError(f"version {line['v']}: only version {VERSION} can be read")
        if line["n"] != self._next:
            raise ValueError(f"line {self._next} of process {line['by']} is missing: line {line['n']} follows")
        self._next += 1
        match line["kind"]:
            case "start":
                return Began(line["settings"], START.validate_python(line["state"], strict=False))
            case "tick":
                return self._tick(line)
            case "idle":
                return self._idle(line)
        raise ValueError(f"kind {line['kind']!r} is not one of start, tick, idle")

    def _tick(self, line: dict[str, Any]) -> Tick:
        commands = self._made_once("commands", line["commands"], _command)
        fleet = self._fleet(line["fleet"]) if line["fleet"] else None
        found = FINDINGS.validate_python(line["found"])
        return Tick(_time(line["at"]), self._scrapes(line["scrapes"]), fleet, commands, found)

    def _idle(self, line: dict[str, Any]) -> Idle:
        cancelled = [
            ((UUID(model), UUID(user)), _slot(slot, reservation))
            for model, user, *slot, reservation in line["cancelled"]
        ]
        looks = [self._look(look) for look in line["looks"]]
        return Idle(Job(line["job"]), _time(line["at"]), looks, FINDINGS.validate_python(line["found"]), cancelled)

    def _look(self, told: dict[str, Any]) -> Look:
        unreadable = frozenset(told["bookings"].get("unreadable", ()))
        reservations = self._made_once("reservations", told["bookings"]["reservations"], _reservation)
        return Look(
            of=(UUID(told["of"][0]), UUID(told["of"][1])) if told["of"] else None,
            at=_time(told["at"]),
            basis=told["basis"],
            scrapes=self._scrapes(told["scrapes"]),
            fleet=self._fleet(told["fleet"]),
            bookings=Bookings(reservations, unreadable) if unreadable else self._same_bookings(reservations),
            spells=self._made_once("spells", told["spells"], _spell),
            closed=self._made_once("closed", told["closed"], _closed),
            resumed_at=_time(told["resumed_at"]) if told["resumed_at"] else None,
        )

    def _same_bookings(self, reservations: tuple[Reservation, ...]) -> Bookings:
        if self._bookings.reservations is not reservations:
            self._bookings = Bookings(reservations)
        return self._bookings

    def _scrapes(self, told: list[dict[str, Any]]) -> tuple[Scrape, ...]:
        return tuple(
            Unread(one["target"], Unknown(one["unread"][0]), one["unread"][1]) if "unread" in one else self._page(one)
            for one in told
        )

    def _page(self, told: dict[str, Any]) -> Page:
        counters = self._deltas.decode(f"counters {told['target']}", told["counters"])
        names = self._deltas.decode(f"names {told['target']}", told["names"])
        extra = (told.get("unreadable", {}), told.get("started_at"))
        return Page(told["target"], _time(told["read_at"]), counters, names, *extra)

    def _fleet(self, told: dict[str, Any]) -> Fleet:
        fleet: Fleet = self._made_once("fleet", told["models"], _model)
        return Fleet(fleet.models, False) if told.get("partial") else fleet

    def _made_once(self, thing: str, told: dict[str, Any], make: Any) -> Any:
        """The value of a mapping, made anew only when the mapping changed, and of its items only those that did."""
        value = self._deltas.decode(thing, told)
        last, items, made = self._made.get(thing, (None, {}, None))
        if last is not value:
            items = {
                key: items[key] if key in items and last[key] is item else make(key, item)
                for key, item in value.items()
            }
            made = COLLECT[thing](items.values())
            self._made[thing] = (value, items, made)
        return made


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _slot(told: list[Any], reservation_id: str) -> Slot:
    start, end, id = told
    return Slot(_time(start), _time(end), id, reservation_id)


def _model(id: str, told: list[Any]) -> ServedModel:
    return ServedModel(UUID(id), *told)


def _command(id: str, told: dict[str, Any]) -> Command:
    return COMMAND.validate_python(told)


def _spell(id: str, told: dict[str, Any]) -> Spell:
    return SPELL.validate_python(told)


def _closed(holder: str, at: float) -> tuple[Holder, datetime]:
    model, user = holder.split()
    return (UUID(model), UUID(user)), _time(at)


def _reservation(id: str, told: list[Any]) -> Reservation:
    user, name, model, model_id, slots = told
    held = tuple(_slot(slot, id) for slot in slots)
    return Reservation(id, User(UUID(user), name), model, UUID(model_id) if model_id else None, held)


COLLECT: dict[str, Callable[[Iterable[Any]], Any]] = {
    "fleet": lambda models: Fleet(tuple(models)),
    "commands": lambda commands: {command.model_id: command for command in commands},
    "spells": lambda spells: {spell.holder: spell for spell in spells},
    "closed": dict,
    "reservations": tuple,
}
