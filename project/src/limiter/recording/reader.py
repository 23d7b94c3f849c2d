"""Reads a recording back, line by line, into the values that the jobs had."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from limiter.domain.fleet import Fleet
from limiter.domain.job import Job
from limiter.domain.reservations import Bookings, Reservation
from limiter.domain.usage import FailedScrape, Heartbeat, Scrape, ScrapedPage, ScrapeProblem
from limiter.recording import values
from limiter.recording.format import KEEPS, RECORDS, START, Deltas, upgraded
from limiter.recording.lines import Began, Idle, Line, RecordedSnapshot, Tick

# What a line that is not one of ours leads to: other types and values than expected, too large or too deep.
BAD_LINE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)

CUT = "; the last line is cut: without it, the recording can be replayed (head --lines=-1)"


class WrongRecording(Exception):
    """A line of a recording that cannot be read; the text names file, line and what is wrong."""


def read(path: Path) -> Iterator[Line]:
    """Every line of the file, in order; raises WrongRecording, or OSError."""
    readers: dict[str, Reader] = {}
    cut: WrongRecording | None = None  # the last line, which may be read over if a process begins behind it
    for number, raw in _lines(path):
        try:
            line = json.loads(raw.decode())
            if cut is not None and line["kind"] != "start":
                raise cut
            cut = None
            reader = readers.setdefault(line["by"], Reader())
            yield reader.read(line)
        except json.JSONDecodeError as error:
            cut = cut or _wrong(path, number, error, "" if raw.endswith(b"\n") else CUT)
        except BAD_LINE as error:
            raise cut or _wrong(path, number, error) from error
    if cut is not None:
        raise cut


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers; raises WrongRecording where a packed file is damaged, or ends too soon."""
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, raw in enumerate(file, 1):
                yield number, raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _wrong(path, number + 1, error) from error


def _wrong(path: Path, number: int, error: Exception, hint: str = "") -> WrongRecording:
    return WrongRecording(f"{path}:{number}: {type(error).__name__}: {' '.join(str(error).split())}{hint}")


class Reader:
    """The lines of one process, each of which tells what changed since the one before."""

    def __init__(self) -> None:
        self._deltas = Deltas()
        self._next = 0
        self._made: dict[str, tuple[Any, dict[str, Any], Any]] = {}
        self._bookings = Bookings(())

    def read(self, line: dict[str, Any]) -> Line:
        line = upgraded(line)
        if line["n"] != self._next:
            raise ValueError(f"line {self._next} of process {line['by']} is missing: line {line['n']} follows")
        self._next += 1
        match line["kind"]:
            case "start":
                return Began(dict(line["settings"]), START.validate_python(line["state"], strict=False))
            case "tick":
                return self._tick(line)
            case "idle":
                return self._idle(line)
        raise ValueError(f"kind {line['kind']!r} is not one of start, tick, idle")

    def _tick(self, line: dict[str, Any]) -> Tick:
        commands = self._made_once("commands", line["commands"], values.command)
        fleet = self._fleet(line["fleet"]) if line["fleet"] else None
        found = RECORDS.validate_python(line["found"])
        booked = frozenset(map(UUID, line.get("booked", ())))
        sagas = self._deltas.decode("sagas", line["sagas"])
        return Tick(values.time(line["at"]), self._scrapes(line["scrapes"]), fleet, commands, found, sagas, booked)

    def _idle(self, line: dict[str, Any]) -> Idle:
        cancelled = [
            ((values.uuid(model), values.uuid(user)), values.slot(slot, reservation))
            for model, user, *slot, reservation in line["cancelled"]
        ]
        snapshots = [self._snapshot(snapshot) for snapshot in line["looks"]]
        return Idle(
            Job(line["job"]), values.time(line["at"]), snapshots, RECORDS.validate_python(line["found"]), cancelled
        )

    def _snapshot(self, fields: dict[str, Any]) -> RecordedSnapshot:
        unreadable = frozenset(fields["bookings"].get("unreadable", ()))
        reservations = self._made_once("reservations", fields["bookings"]["reservations"], values.reservation)
        return RecordedSnapshot(
            of=(values.uuid(fields["of"][0]), values.uuid(fields["of"][1])) if fields["of"] else None,
            at=values.time(fields["at"]),
            basis=fields["basis"],
            scrapes=self._scrapes(fields["scrapes"]),
            fleet=self._fleet(fields["fleet"]),
            bookings=Bookings(reservations, unreadable) if unreadable else self._same_bookings(reservations),
            spells=self._made_once("spells", fields["spells"], values.spell),
            closed=self._made_once("closed", fields["closed"], values.closed),
            resumed_at=values.time(fields["resumed_at"]) if fields["resumed_at"] else None,
            keeps=KEEPS.validate_python(fields.get("keeps", [])),
        )

    def _same_bookings(self, reservations: tuple[Reservation, ...]) -> Bookings:
        if self._bookings.reservations is not reservations:
            self._bookings = Bookings(reservations).following(self._bookings)
        return self._bookings

    def _scrapes(self, fields: list[dict[str, Any]]) -> tuple[Scrape, ...]:
        return tuple(
            (
                FailedScrape(one["target"], ScrapeProblem(one["unread"][0]), one["unread"][1])
                if "unread" in one
                else self._page(one)
            )
            for one in fields
        )

    def _page(self, fields: dict[str, Any]) -> ScrapedPage:
        counters = self._deltas.decode(f"counters {fields['target']}", fields["counters"])
        names = self._deltas.decode(f"names {fields['target']}", fields["names"])
        heartbeat = fields.get("heartbeat")
        return ScrapedPage(
            target=fields["target"],
            read_at=values.time(fields["read_at"]),
            counters=counters,
            names=names,
            unreadable=fields.get("unreadable", {}),
            started_at=fields.get("started_at"),
            busy=frozenset(fields.get("busy", ())),
            digest=fields.get("digest"),
            heartbeat=Heartbeat(heartbeat) if heartbeat else None,
            read_as=fields.get("read_as"),
        )

    def _fleet(self, fields: dict[str, Any]) -> Fleet:
        fleet: Fleet = self._made_once("fleet", fields["models"], values.model)
        unreadable = frozenset(map(UUID, fields.get("unreadable", ())))
        partial = bool(fields.get("partial"))
        return Fleet(fleet.models, not partial, unreadable) if partial or unreadable else fleet

    def _made_once(self, thing: str, fields: dict[str, Any], make: Any) -> Any:
        """The value of a mapping, made anew only when the mapping changed, and of its items only those that did."""
        value = self._deltas.decode(thing, fields)
        last, items, made = self._made.get(thing, (None, {}, None))
        if last is not value:
            items = {
                key: items[key] if key in items and last[key] is item else make(key, item)
                for key, item in value.items()
            }
            made = values.COLLECT[thing](items.values())
            self._made[thing] = (value, items, made)
        return made
