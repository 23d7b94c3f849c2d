"""Reads a recording back, line by line, into the values that the jobs had."""

import gzip
import json
from collections.abc import Iterator
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
        self._made: dict[str, tuple[Any, Any]] = {}

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
        commands = self._made_once("commands", line["commands"], _commands)
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
        reservations = self._made_once("reservations", told["bookings"]["reservations"], _reservations)
        return Look(
            of=(UUID(told["of"][0]), UUID(told["of"][1])) if told["of"] else None,
            at=_time(told["at"]),
            basis=told["basis"],
            scrapes=self._scrapes(told["scrapes"]),
            fleet=self._fleet(told["fleet"]),
            bookings=Bookings(reservations, unreadable) if unreadable else self._same_bookings(reservations),
            spells=self._made_once("spells", told["spells"], _spells),
            closed=self._made_once("closed", told["closed"], _closed),
            resumed_at=_time(told["resumed_at"]) if told["resumed_at"] else None,
        )

    def _same_bookings(self, reservations: tuple[Reservation, ...]) -> Bookings:
        last = self._made.get("bookings")
        if last is None or last[0] is not reservations:
            last = self._made["bookings"] = (reservations, Bookings(reservations))
        bookings: Bookings = last[1]
        return bookings

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
        fleet: Fleet = self._made_once("fleet", told["models"], _fleet)
        return Fleet(fleet.models, False) if told.get("partial") else fleet

    def _made_once(self, thing: str, told: dict[str, Any], make: Any) -> Any:
        """The value of a mapping, made anew only when the mapping changed."""
        value = self._deltas.decode(thing, told)
        made = self._made.get(thing)
        if made is None or made[0] is not value:
            made = self._made[thing] = (value, make(value))
        return made[1]


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _slot(told: list[Any], reservation_id: str) -> Slot:
    start, end, id = told
    return Slot(_time(start), _time(end), id, reservation_id)


def _fleet(models: dict[str, list[Any]]) -> Fleet:
    return Fleet(tuple(ServedModel(UUID(id), name, replicas) for id, (name, replicas) in models.items()))


def _commands(told: dict[str, Any]) -> dict[UUID, Command]:
    return {UUID(id): COMMAND.validate_python(command) for id, command in told.items()}


def _spells(told: dict[str, Any]) -> dict[Holder, Spell]:
    return {spell.holder: spell for spell in (SPELL.validate_python(one) for one in told.values())}


def _closed(told: dict[str, Any]) -> dict[Holder, datetime]:
    holders = ((key.split(), at) for key, at in told.items())
    return {(UUID(model), UUID(user)): _time(at) for (model, user), at in holders}


def _reservations(told: dict[str, list[Any]]) -> tuple[Reservation, ...]:
    return tuple(
        Reservation(
            id,
            User(UUID(user), name),
            model,
            UUID(model_id) if model_id else None,
            tuple(_slot(slot, id) for slot in slots),
        )
        for id, (user, name, model, model_id, slots) in told.items()
    )
