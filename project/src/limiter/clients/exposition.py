"""Reads one family, by model name, from the blocks of a Prometheus text page.

In each block of whole lines one regular expression finds the family's lines of the usual shape, and the raw label set
maps to its series by a cache, so that labels are parsed once in a series' life. A count of all lines that begin with
the family's name guards it: any line the expression did not match (timestamps, braces or blanks in odd places) sends
the block's lines of that family to prometheus_client's own parser. Broken lines refuse the page; lines of other
families are never looked at.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from limiter.domain.shard import EVERY_MODEL, Shard

MOST = 1e18  # calls: no counter gets there, and sums of larger ones could overflow

LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\\n]*)"')
LABELS = re.compile(rb"\{" + LABEL.pattern + rb"(?:," + LABEL.pattern + rb")*\}")


class BrokenPage(Exception):
    """The page is not a Prometheus text page, or it is cut off."""


class NoFamily(Exception):
    """The family is not on the page at all."""


@dataclass(frozen=True, slots=True)
class Family:
    """Which family to read: its name, the label with the model's name, and labels a series must carry to count.

    Of the models, only those of the shard count.
    """

    metric: str
    label: str
    match: Mapping[str, str] = field(default_factory=dict)
    shard: Shard = EVERY_MODEL


@dataclass(slots=True)
class Series:
    """What a page has of a family: values and unreadable ones by series, and each series' model name."""

    counters: dict[str, float] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


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
        if not self.family.shard.minds(name):
            return None
        return ",".join(f"{key}={labels[key]!r}" for key in sorted(labels)), name

    def keep(self, present: Iterable[bytes]) -> None:
        """Forget label sets that the last page did not have, once they outnumber those it had."""
        current = set(present)
        if len(self.known) > 2 * len(current) + 1000:
            self.known = {raw: series for raw, series in self.known.items() if raw in current}


class FamilyReader:
    """Takes a page in blocks of whole lines, each with the line feed before it; `found` is what they held."""

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
        self._seen: list[bytes] = []
        self.found = Series()
        self.there = False

    def finish(self) -> Series:
        """What the whole page held; it may be nothing."""
        self._cache.keep(self._seen)
        return self.found

    def read(self, block: bytes) -> None:
        """Take the next block; raises BrokenPage."""
        if self._name[1:] not in block:
            if not self.there:
                self.there = self._declared.search(block) is not None
            return
        # A line may begin with blanks; to search for that everywhere would cost the search its literal prefix.
        indented = any(blank + self._name[1:] in block for blank in (b" ", b"\t"))
        lines = (self._indented if indented else self._any).findall(block)
        self.there = self.there or bool(lines) or self._declared.search(block) is not None
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
                raise BrokenPage(f"{shown(value)} is not a number") from None

    def _parse_labels(self, raw: bytes) -> tuple[str, str] | None:
        labels = _usual_labels(raw)
        if labels is None:
            labels = _labels(self._metric, self._metric.encode() + raw + b" 0")[0]
        return self._cache.series(labels)

    def _take_odd(self, line: bytes) -> None:
        labels, value = _labels(self._metric, line.strip(b" \t\r"))
        series = self._cache.series(labels)
        if series is not None:
            self._store(series, value)

    def _store(self, series: tuple[str, str], value: float) -> None:
        key, name = series
        if key in self.found.names:
            raise BrokenPage(f"series {{{key}}} stands twice on the page")
        self.found.names[key] = name
        if 0 <= value <= MOST:
            self.found.counters[key] = value
        else:
            self.found.unreadable[key] = name


def _usual_labels(raw: bytes) -> dict[str, str] | None:
    """Labels as every client library writes them, without an escape; None if they are not so, or not certainly.

    prometheus_client's parser takes 70 µs for a label set: six seconds for the first page of a large platform.
    """
    if LABELS.fullmatch(raw) is None:
        return None
    found = LABEL.findall(raw)
    labels = dict(found)
    if len(labels) < len(found):
        return None
    try:
        return {name.decode(): value.decode() for name, value in labels.items()}
    except UnicodeDecodeError:
        return None


def _labels(metric: str, line: bytes) -> tuple[dict[str, str], float]:
    """Labels and value of one line, by prometheus_client's own parser."""
    try:
        samples = [s for family in text_string_to_metric_families(line.decode() + "\n") for s in family.samples]
        (sample,) = samples
        value = float(sample.value)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise BrokenPage(f"{shown(line)}: {error}") from None
    if sample.name != metric:
        raise BrokenPage(f"{shown(line)} is no sample of {metric}")
    return dict(sample.labels), value


def shown(raw: bytes) -> str:
    """The beginning of some bytes, for a message."""
    return repr(raw[:120].decode(errors="replace"))
