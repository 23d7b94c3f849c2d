"""Reads one counter family from a Prometheus text page, streamed, and everything else on the page almost for free.

The page is cut into blocks of whole lines. In each block one regular expression finds the family's lines of the usual
shape, and the raw label set maps to its series by a cache, so that labels are parsed once in a series' life. A count of
all lines that begin with the family's name guards it: any line the expression did not match (timestamps, braces or
blanks in odd places) sends the block's lines of that family to prometheus_client's own parser. Broken lines refuse the
page; lines of other families are never looked at.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

START_TIME = b"process_start_time_seconds"
MOST = 1e18  # calls: no counter gets there, and sums of larger ones could overflow


class BrokenPage(Exception):
    """The page is not a Prometheus text page, or it is cut off."""


class NoFamily(Exception):
    """The family is not on the page at all."""


@dataclass(frozen=True, slots=True)
class Family:
    """Which counter to read: its name, the label with the model's name, and labels a series must carry to count."""

    metric: str
    label: str
    match: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Series:
    """What a reading found: counters and unreadable ones by series, and each series' model name."""

    counters: dict[str, float] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    started_at: float | None = None


class SeriesCache:
    """Raw label set -> (series, model name), or None for a series that does not count; kept between pages."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.known: dict[bytes, tuple[str, str] | None] = {}

    def series(self, labels: Mapping[str, str]) -> tuple[str, str] | None:
        """The canonical series of these labels and its model name; None if it does not count."""
        name = labels.get(self.family.label)
        # No running model is named so, and Postgres could not store it.
        if name is None or "\x00" in name or any(labels.get(key) != value for key, value in self.family.match.items()):
            return None
        return ",".join(f"{key}={labels[key]!r}" for key in sorted(labels)), name

    def keep(self, present: Iterable[bytes]) -> None:
        """Forget label sets that the last page did not have, once they outnumber those it had."""
        current = set(present)
        if len(self.known) > 2 * len(current) + 1000:
            self.known = {raw: series for raw, series in self.known.items() if raw in current}


class PageReader:
    """Takes a page in chunks of bytes; `finish` gives what it held."""

    def __init__(self, cache: SeriesCache) -> None:
        name = re.escape(cache.family.metric.encode())
        self._cache = cache
        self._metric = cache.family.metric
        self._name = b"\n" + cache.family.metric.encode()
        # One space, a plain number, no timestamp: how every client library writes.
        self._usual = re.compile(rb"\n" + name + rb"(\{[^{}\n]*\}) ([0-9.eE+-]+)(?=\r?\n)")
        self._any = re.compile(rb"\n(" + name + rb"(?:[ \t]*\{|[ \t])[^\n]*)(?=\n)")
        self._indented = re.compile(rb"\n[ \t]*(" + name + rb"(?:[ \t]*\{|[ \t])[^\n]*)(?=\n)")
        base = re.escape(cache.family.metric.removesuffix("_total").encode())
        self._declared = re.compile(rb"\n# (?:TYPE|HELP) (?:" + name + rb"|" + base + rb")[ \t]")
        self._rest = b"\n"
        self._found = Series()
        self._seen: list[bytes] = []
        self._family_there = False

    def feed(self, chunk: bytes) -> None:
        """Take the next piece; raises BrokenPage."""
        block = self._rest + chunk
        end = block.rfind(b"\n")
        if end <= 0:
            self._rest = block
            return
        # The line feed stays with the next block too: it opens that block's first line.
        self._read(block[: end + 1])
        self._rest = block[end:]

    def finish(self) -> Series:
        """What the whole page held; raises BrokenPage if it ends inside a line, NoFamily if the family is missing."""
        if self._rest != b"\n":
            raise BrokenPage("the page ends in the middle of a line")
        if not self._family_there:
            raise NoFamily(f"no {self._cache.family.metric} on the page")
        self._cache.keep(self._seen)
        return self._found

    def _read(self, block: bytes) -> None:
        if self._found.started_at is None and START_TIME in block:
            self._read_start_time(block)
        if self._name[1:] not in block:
            if not self._family_there:
                self._family_there = self._declared.search(block) is not None
            return
        # A line may begin with blanks; to search for that everywhere would cost the search its literal prefix.
        indented = any(blank + self._name[1:] in block for blank in (b" ", b"\t"))
        lines = (self._indented if indented else self._any).findall(block)
        self._family_there = self._family_there or bool(lines) or self._declared.search(block) is not None
        usual = self._usual.findall(block)
        if len(usual) == len(lines):
            for raw, value in usual:
                self._take(raw, value)
        else:
            for line in lines:
                self._take_odd(line)

    def _take(self, raw: bytes, value: bytes) -> None:
        known = self._cache.known
        if raw in known:
            series = known[raw]
        else:
            series = known[raw] = self._parse_labels(raw)
        self._seen.append(raw)
        if series is not None:
            try:
                self._store(series, float(value))
            except ValueError:
                raise BrokenPage(f"{_shown(value)} is not a number") from None

    def _parse_labels(self, raw: bytes) -> tuple[str, str] | None:
        return self._cache.series(_labels(self._metric, self._metric.encode() + raw + b" 0")[0])

    def _take_odd(self, line: bytes) -> None:
        labels, value = _labels(self._metric, line.strip(b" \t\r"))
        series = self._cache.series(labels)
        if series is not None:
            self._store(series, value)

    def _store(self, series: tuple[str, str], value: float) -> None:
        key, name = series
        if key in self._found.names:
            raise BrokenPage(f"series {{{key}}} stands twice on the page")
        self._found.names[key] = name
        if 0 <= value <= MOST:
            self._found.counters[key] = value
        else:
            self._found.unreadable[key] = name

    def _read_start_time(self, block: bytes) -> None:
        found = re.search(rb"\n" + START_TIME + rb" ([0-9.eE+-]+)\r?\n", block)
        if found is not None:
            try:
                seconds = float(found[1])
            except ValueError:
                raise BrokenPage(f"{_shown(found[1])} is not a start time") from None
            self._found.started_at = seconds if math.isfinite(seconds) else None


def _labels(metric: str, line: bytes) -> tuple[dict[str, str], float]:
    """Labels and value of one line, by prometheus_client's own parser."""
    try:
        samples = [s for family in text_string_to_metric_families(line.decode() + "\n") for s in family.samples]
        (sample,) = samples
        value = float(sample.value)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise BrokenPage(f"{_shown(line)}: {error}") from None
    if sample.name != metric:
        raise BrokenPage(f"{_shown(line)} is no sample of {metric}")
    return dict(sample.labels), value


def _shown(raw: bytes) -> str:
    return repr(raw[:120].decode(errors="replace"))
