"""Records what the jobs read and decided; `format` tells how a recording looks."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from loguru import logger

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command
from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.reservations import Bookings, Slot
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import Memory, Scrape, ScrapedPage
from limiter.recording.format import COMMAND, KEEPS, RECORDS, SPELL, START, VERSION, Deltas, Start
from limiter.recording.trace import RunTrace


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
        records: list[DecisionRecord],
        before: tuple[Memory, Mapping[UUID, ScalingState]],
    ) -> None:
        """One run of rps_check, after its commit; `before` is what was remembered when it began."""
        if self.on:
            self._begin(Start(before[0], list(before[1].values()), list(commands.values()), [], [], []))
            fields = {str(id): COMMAND.dump_python(command, mode="json") for id, command in commands.items()}
            line = {
                "kind": "tick",
                "at": at.timestamp(),
                "scrapes": self._scrapes(scrapes),
                "fleet": self._fleet(fleet) if fleet else None,
                "commands": self._deltas.encode("commands", fields),
                "found": RECORDS.dump_python(records, mode="json"),
            }
            self._write(line)

    def idle(self, job: str, at: datetime, trace: RunTrace) -> None:
        """One run of an idle job, at its end."""
        if not self.on or not trace.snapshots:
            return
        self._begin(_start(trace.snapshots[0][1]))
        line = {
            "kind": "idle",
            "job": job,
            "at": at.timestamp(),
            "looks": [self._snapshot(key, snapshot) for key, snapshot in trace.snapshots],
            "found": RECORDS.dump_python(list(trace.acted + trace.held), mode="json"),
            "cancelled": [[str(key[0]), str(key[1]), *_slot(slot)] for key, slot in trace.cancelled],
        }
        self._write(line)

    def _snapshot(self, key: BookingKey | None, snapshot: Snapshot) -> dict[str, Any]:
        spells = {str(spell.id): SPELL.dump_python(spell, mode="json") for spell in snapshot.prior.spells.values()}
        closed = {" ".join(map(str, one)): at.timestamp() for one, at in snapshot.prior.closed.items()}
        return {
            "of": [str(id) for id in key] if key else None,
            "at": snapshot.at.timestamp(),
            "basis": basis.timestamp() if (basis := snapshot.remembered.read_at) else None,
            "scrapes": self._scrapes(snapshot.scrapes),
            "fleet": self._fleet(snapshot.fleet),
            "bookings": self._bookings(snapshot.bookings),
            "spells": self._deltas.encode("spells", spells),
            "closed": self._deltas.encode("closed", closed),
            "resumed_at": snapshot.prior.resumed_at.timestamp() if snapshot.prior.resumed_at else None,
            "keeps": KEEPS.dump_python(list(snapshot.prior.keeps), mode="json"),
        }

    def _scrapes(self, scrapes: Iterable[Scrape]) -> list[dict[str, Any]]:
        return [
            (
                self._page(one)
                if isinstance(one, ScrapedPage)
                else {"target": one.target, "unread": [one.reason, one.detail]}
            )
            for one in scrapes
        ]

    def _page(self, page: ScrapedPage) -> dict[str, Any]:
        fields = {
            "target": page.target,
            "read_at": page.read_at.timestamp(),
            "counters": self._deltas.encode(f"counters {page.target}", dict(page.counters)),
            "names": self._deltas.encode(f"names {page.target}", dict(page.names)),
        }
        extra = {
            "started_at": page.started_at,
            "unreadable": dict(page.unreadable),
            "busy": sorted(page.busy),
            "digest": page.digest,
            "heartbeat": page.heartbeat,
        }
        return fields | {name: value for name, value in extra.items() if value}

    def _fleet(self, fleet: Fleet) -> dict[str, Any]:
        models = {str(model.id): [model.name, model.replicas] for model in fleet.models}
        extra = {"partial": not fleet.complete, "unreadable": sorted(map(str, fleet.unreadable))}
        given = {name: value for name, value in extra.items() if value}
        return {"models": self._deltas.encode("fleet", models)} | given

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
        fields = {"v": VERSION, "by": self._by, "n": self._number} | line
        raw = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
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


def _start(snapshot: Snapshot) -> Start:
    prior = snapshot.prior
    closed = [(*key, at) for key, at in prior.closed.items()]
    standing = [(*key, stands) for key, stands in prior.standing.items()]
    return Start(
        snapshot.remembered, list(prior.scaling_states.values()), [], list(prior.spells.values()), closed, standing
    )


def _slot(slot: Slot) -> list[Any]:
    return [slot.start.timestamp(), slot.end.timestamp(), slot.id, slot.reservation_id]
