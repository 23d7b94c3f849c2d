"""Reads a Prometheus text page, streamed: the families wanted, and what shows which process wrote it and when."""

import math
import re
import zlib
from dataclasses import dataclass

from limiter.clients.exposition import FamilyReader, NoFamily, Series
from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import BrokenPage, shown
from limiter.domain.usage import Heartbeat

OF_THE_PROCESS, OF_METRICS = b"\nprocess_", b"metric"  # what stands in all that is read here besides the families
START_TIME = b"process_start_time_seconds"
CPU_TIME = re.compile(rb"\nprocess_cpu_seconds_total(?:\{[^\n]*\})? [^\n]")
SCRAPES = b"\npromhttp_metric_handler_requests_total{"
METRICS_PATH = b'"/metrics"'  # as a label's value: the counter is one of requests of this very page
OF_A_COUNTER = re.compile(rb"\n[a-zA-Z_:][a-zA-Z0-9_:]*_total\{[^\n]*$")


@dataclass(frozen=True, slots=True)
class PageContent:
    """What a page held; `digest` is a signed 64-bit number, `started_at` in Unix seconds."""

    calls: Series
    in_flight: Series
    started_at: float | None
    heartbeat: Heartbeat | None
    digest: int
    lacks_in_flight: bool = False


class PageReader:
    """Takes a page in chunks of bytes; `finish` gives what it held."""

    def __init__(self, calls: SeriesCache, in_flight: SeriesCache | None = None) -> None:
        self._calls = FamilyReader(calls)
        self._in_flight = FamilyReader(in_flight) if in_flight else None
        self._metric = calls.family.metric
        self._name = b"\n" + calls.family.metric.encode() + b"{"
        self._rest = b"\n"
        self._started_at: float | None = None
        self._heartbeat: Heartbeat | None = None
        self._checksum = self._length = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next piece; raises BrokenPage."""
        self._checksum = zlib.crc32(chunk, self._checksum)
        self._length += len(chunk)
        end = chunk.rfind(b"\n")
        if end < 0:
            self._rest += chunk
            return
        self._read(b"".join((self._rest, memoryview(chunk)[: end + 1])))  # copied once, not twice
        # The line feed stays with the next block too: it opens that block's first line.
        self._rest = chunk[end:]

    def finish(self) -> PageContent:
        """What the whole page held; raises BrokenPage if it ends inside a line, NoFamily if the calls are missing."""
        if self._rest != b"\n":
            raise BrokenPage("the page ends in the middle of a line")
        if not self._calls.there:
            raise NoFamily(f"no {self._metric} on the page")
        in_flight = self._in_flight.finish() if self._in_flight else Series()
        digest = (self._length & 0x7FFFFFFF) << 32 | self._checksum
        lacks = self._in_flight is not None and not self._in_flight.there
        return PageContent(self._calls.finish(), in_flight, self._started_at, self._heartbeat, digest, lacks)

    def _read(self, block: bytes) -> None:
        block = self._calls.read(block)
        if self._in_flight:
            block = self._in_flight.read(block)
        # One search each for what most blocks have nothing of: every further one costs as much as a tenth of all else.
        if (self._started_at is None or self._heartbeat is None) and OF_THE_PROCESS in block:
            if self._started_at is None:
                self._read_start_time(block)
            if self._heartbeat is None and CPU_TIME.search(block):
                self._heartbeat = Heartbeat.CPU
        if self._heartbeat is not Heartbeat.SCRAPES and OF_METRICS in block:
            self._find_heartbeat(block)

    def _find_heartbeat(self, block: bytes) -> None:
        if SCRAPES in block or self._counts_own_requests(block):
            self._heartbeat = Heartbeat.SCRAPES

    def _counts_own_requests(self, block: bytes) -> bool:
        """True if a counter other than that of the calls is labelled with the path of this page."""
        at = block.find(METRICS_PATH)
        while at >= 0:
            line = block[block.rfind(b"\n", 0, at) : at]
            if OF_A_COUNTER.match(line) and not line.startswith(self._name):
                return True
            at = block.find(METRICS_PATH, at + 1)
        return False

    def _read_start_time(self, block: bytes) -> None:
        found = re.search(rb"\n" + START_TIME + rb" ([0-9.eE+-]+)\r?\n", block)
        if found is not None:
            try:
                seconds = float(found[1])
            except ValueError:
                raise BrokenPage(f"{shown(found[1])} is not a start time") from None
            self._started_at = seconds if math.isfinite(seconds) else None
