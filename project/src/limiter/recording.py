"""A recording of what the jobs saw and decided: one JSON line per run, appended to a file that replays read.

Any number of replicas may append to one file: a line is one write. Each line carries only what changed since the last
line of the same process (`by`), whose first line carries everything, so a process that comes or goes breaks nothing.
Lines of one process are numbered (`n`), so a lost one is noticed.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from loguru import logger
from pydantic import TypeAdapter

from limiter.domain.action import Command
from limiter.domain.audit import Finding
from limiter.domain.fleet import Fleet, Sighting
from limiter.domain.idleness import Spell
from limiter.domain.reservations import Bookings, Slot
from limiter.domain.survey import Holder, Notes, Survey
from limiter.domain.usage import Memory, Page, Scrape

VERSION = 1
FINDINGS, COMMAND, SPELL = TypeAdapter(list[Finding]), TypeAdapter(Command), TypeAdapter(Spell)


@dataclass(frozen=True, slots=True)
class Start:
    """What was remembered when a file begins; a replay goes on from there."""

    memory: Memory
    sightings: list[Sighting]
    commands: list[Command]
    spells: list[Spell]
    closed: list[tuple[UUID, UUID, datetime]]
    standing: list[tuple[UUID, UUID, str]]


START = TypeAdapter(Start)


class Deltas:
    """What changed in each of several mappings since it was last told; reads back what it wrote."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}

    def encode(self, thing: str, value: dict[str, Any]) -> dict[str, Any]:
        last = self._last.get(thing)
        self._last[thing] = value
        if last is None:
            return {"all": value}
        changed = {key: item for key, item in value.items() if key not in last or last[key] != item}
        gone = [key for key in last if key not in value]
        return ({"set": changed} if changed else {}) | ({"gone": gone} if gone else {})

    def decode(self, thing: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """The whole mapping, the same object if nothing changed; raises KeyError if its beginning is missing."""
        if "all" in told:
            self._last[thing] = dict(told["all"])
        elif told:
            gone = set(told.get("gone", ()))
            kept = {key: item for key, item in self._last[thing].items() if key not in gone}
            self._last[thing] = kept | told.get("set", {})
        return self._last[thing]


class Recorder:
    """Appends to the file while it is smaller than `limit` bytes; records nothing without a path."""

    def __init__(self, path: str, limit: int, settings: Mapping[str, Any]) -> None:
        self._path = Path(path) if path else None
        self._limit = limit
        self._settings = settings
        self._by = uuid4().hex[:8]
        self._number = 0
        self._deltas = Deltas()

    @property
    def on(self) -> bool:
        return self._path is not None

    def tick(
        self,
        at: datetime,
        scrapes: Sequence[Scrape],
        fleet: Fleet | None,
        commands: Mapping[UUID, Command],
        findings: list[Finding],
        before: tuple[Memory, Mapping[UUID, Sighting]],
    ) -> None:
        """One run of rps_check, after its commit; `before` is what was remembered when it began."""
        if self.on:
            self._begin(Start(before[0], list(before[1].values()), list(commands.values()), [], [], []))
            told = {str(id): COMMAND.dump_python(command, mode="json") for id, command in commands.items()}
            line = {
                "kind": "tick",
                "at": at.timestamp(),
                "scrapes": self._scrapes(scrapes),
                "fleet": self._fleet(fleet) if fleet else None,
                "commands": self._deltas.encode("commands", told),
                "found": FINDINGS.dump_python(findings, mode="json"),
            }
            self._write(line)

    def idle(self, job: str, at: datetime, notes: Notes) -> None:
        """One run of an idle job, at its end."""
        if not self.on or not notes.looks:
            return
        self._begin(_start(notes.looks[0][1]))
        line = {
            "kind": "idle",
            "job": job,
            "at": at.timestamp(),
            "looks": [self._look(holder, look) for holder, look in notes.looks],
            "found": FINDINGS.dump_python(notes.acted + notes.held, mode="json"),
            "cancelled": [[str(holder[0]), str(holder[1]), *_slot(slot)] for holder, slot in notes.cancelled],
        }
        self._write(line)

    def _look(self, holder: Holder | None, look: Survey) -> dict[str, Any]:
        spells = {str(spell.id): SPELL.dump_python(spell, mode="json") for spell in look.past.spells.values()}
        closed = {" ".join(map(str, one)): at.timestamp() for one, at in look.past.closed.items()}
        return {
            "of": [str(id) for id in holder] if holder else None,
            "at": look.at.timestamp(),
            "basis": basis.timestamp() if (basis := look.remembered.read_at) else None,
            "scrapes": self._scrapes(look.scrapes),
            "fleet": self._fleet(look.fleet),
            "bookings": self._bookings(look.bookings),
            "spells": self._deltas.encode("spells", spells),
            "closed": self._deltas.encode("closed", closed),
            "resumed_at": look.past.resumed_at.timestamp() if look.past.resumed_at else None,
        }

    def _scrapes(self, scrapes: Iterable[Scrape]) -> list[dict[str, Any]]:
        return [
            self._page(one) if isinstance(one, Page) else {"target": one.target, "unread": [one.reason, one.detail]}
            for one in scrapes
        ]

    def _page(self, page: Page) -> dict[str, Any]:
        told = {
            "target": page.target,
            "read_at": page.read_at.timestamp(),
            "counters": self._deltas.encode(f"counters {page.target}", dict(page.counters)),
            "names": self._deltas.encode(f"names {page.target}", dict(page.names)),
        }
        extra = {"started_at": page.started_at, "unreadable": dict(page.unreadable)}
        return told | {name: value for name, value in extra.items() if value}

    def _fleet(self, fleet: Fleet) -> dict[str, Any]:
        models = {str(model.id): [model.name, model.replicas] for model in fleet.models}
        return {"models": self._deltas.encode("fleet", models)} | ({} if fleet.complete else {"partial": True})

    def _bookings(self, bookings: Bookings) -> dict[str, Any]:
        booked = {
            one.id: [
                str(one.user.id),
                one.user.name,
                one.model_name,
                str(one.model_id) if one.model_id else None,
                [_slot(slot)[:3] for slot in one.slots],
            ]
            for one in bookings.reservations
        }
        unreadable = {"unreadable": sorted(bookings.unreadable)} if bookings.unreadable else {}
        return {"reservations": self._deltas.encode("reservations", booked)} | unreadable

    def _begin(self, start: Start) -> None:
        if self._number == 0:
            self._write({"kind": "start", "settings": self._settings, "state": START.dump_python(start, mode="json")})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        told = {"v": VERSION, "by": self._by, "n": self._number} | line
        raw = json.dumps(told, separators=(",", ":")).encode() + b"\n"
        self._number += 1
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(file).st_size
                if size + len(raw) > self._limit:
                    return self._stop(f"{size} bytes of at most {self._limit} are used")
                if os.write(file, raw) < len(raw):
                    return self._stop("a line could not be written whole")
            finally:
                os.close(file)
        except OSError as error:
            self._stop(str(error))
        return None

    def _stop(self, why: str) -> None:
        """A recording that cannot go on must not disturb the jobs, but its end must be known."""
        logger.bind(event="recording_stopped", path=str(self._path)).error("the recording stopped: {}", why)
        self._path = None


def _start(look: Survey) -> Start:
    past = look.past
    closed = [(*holder, at) for holder, at in past.closed.items()]
    standing = [(*holder, stands) for holder, stands in past.standing.items()]
    return Start(look.remembered, list(past.sightings.values()), [], list(past.spells.values()), closed, standing)


def _slot(slot: Slot) -> list[Any]:
    return [slot.start.timestamp(), slot.end.timestamp(), slot.id, slot.reservation_id]
