"""Records what the jobs read and decided; `format` tells how a recording looks."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from loguru import logger

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command
from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.usage import Memory, Scrape
from limiter.recording.encoder import Encoder, slot_fields
from limiter.recording.format import RECORDS, START, VERSION, Start, plain, start_of
from limiter.recording.trace import RunTrace

HEAD_BYTES = 30  # of a file: `{"v":4,"by":"` and which process began it


class Recorder:
    """Appends to the file while it is smaller than `limit` bytes; records nothing without a path."""

    def __init__(
        self, path: str, limit: int, settings: Mapping[str, Any], stopped: Callable[[], None] = lambda: None
    ) -> None:
        """`stopped` is called once if it cannot go on."""
        self._stopped = stopped
        self._path = Path(path) if path else None
        self._limit, self._settings = limit, settings
        self._by, self._number, self._encoder = uuid4().hex[:8], 0, Encoder()
        self._head = b""  # how the file begins that has our lines

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
        saga_seconds: Mapping[str, float],
        booked: Collection[UUID] = (),
    ) -> None:
        """One run of rps_check, after its commit; `before` is what was remembered when it began."""
        if self.on:
            self._begin(Start(before[0], list(before[1].values()), list(commands.values()), [], [], []))
            line = {
                "kind": "tick",
                "at": at.timestamp(),
                "scrapes": self._encoder.scrapes(scrapes),
                "fleet": self._encoder.fleet(fleet) if fleet else None,
                "commands": self._encoder.commands(commands),
                "sagas": self._encoder.saga_seconds(saga_seconds),
                "found": _dumped(records),
            }
            self._write(line | ({"booked": sorted(map(str, booked))} if booked else {}))

    def kept(self, part: RunTrace) -> RunTrace:
        """What a recording needs of a part of a run; without one the snapshots, which are large, may go."""
        return part if self.on else replace(part, snapshots=())

    def idle(self, job: str, at: datetime, trace: RunTrace) -> None:
        """One run of an idle job, at its end."""
        if not self.on or not trace.snapshots:
            return
        self._begin(start_of(trace.snapshots[0][1]))
        line = {
            "kind": "idle",
            "job": job,
            "at": at.timestamp(),
            "looks": [self._encoder.snapshot(key, snapshot) for key, snapshot in trace.snapshots],
            "found": _dumped(trace.acted + trace.held),
            "cancelled": [[str(key[0]), str(key[1]), *slot_fields(slot)] for key, slot in trace.cancelled],
        }
        self._write(line)

    def _begin(self, start: Start) -> None:
        """Begin with all that is remembered, in each file anew: somebody may have moved ours away, or emptied it."""
        if self._number == 0 or self._beginning() != self._head:
            self._by, self._number, self._encoder = uuid4().hex[:8], 0, Encoder()
            state = START.dump_python(replace(start, memory=plain(start.memory)), mode="json")
            # A replica whose machine went down may have left a part of a line: ours must not become its end.
            behind = b"" if self._bytes(-1, os.SEEK_END) in (b"", b"\n") else b"\n"
            self._write({"kind": "start", "settings": self._settings, "state": state}, behind)
            self._head = self._beginning()

    def _beginning(self) -> bytes:
        """The first bytes of the file, which tell who began it."""
        return self._bytes(0, os.SEEK_SET)

    def _bytes(self, place: int, whence: int) -> bytes:
        """Some bytes of the file from a place on; nothing of one that is empty or gone, or is a pipe."""
        try:
            if self._path is not None and self._path.is_file():
                with self._path.open("rb") as file:
                    file.seek(place, whence)
                    return file.read(HEAD_BYTES)
        except OSError:
            pass  # the next write says what is wrong
        return b""

    def _write(self, line: dict[str, Any], behind: bytes = b"") -> None:
        if self._path is None:
            return
        fields = {"v": VERSION, "by": self._by, "n": self._number} | line
        raw = behind + json.dumps(fields, separators=(",", ":")).encode() + b"\n"
        self._number += 1
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(file).st_size
                if line["kind"] != "start" and self._beginning() != self._head:
                    pass  # moved away while the line was made: the next run begins anew
                elif size + len(raw) > self._limit:
                    self._stop(f"{size} bytes of at most {self._limit} are used")
                elif not self._append(file, raw):
                    self._stop("a line could not be written whole")
            finally:
                os.close(file)
        except OSError as error:
            self._stop(str(error))

    def _append(self, file: int, raw: bytes) -> bool:
        """Write a line at the end; false, and nothing of it, if there is no room for all of it."""
        written = os.write(file, raw)
        if written < len(raw) and os.fstat(file).st_size == (end := os.lseek(file, 0, os.SEEK_CUR)):
            os.ftruncate(file, end - written)  # a part of a line would make the whole file unreadable
        return written == len(raw)

    def _stop(self, why: str) -> None:
        """A recording that cannot go on must not disturb the jobs, but its end must be known."""
        logger.bind(event="recording_stopped", path=str(self._path)).error("the recording stopped: {}", why)
        self._path = None
        self._stopped()


def _dumped(records: Iterable[DecisionRecord]) -> Any:
    return RECORDS.dump_python([replace(record, numbers=record.worked_out()) for record in records], mode="json")
