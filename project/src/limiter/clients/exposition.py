"""Reads one family, by model name, from the blocks of a Prometheus text page.

A page has the series of the last one in the same order, but for a few (`SeriesCache`). So a block of whole lines is
first cut at the family's name; where raw label sets follow that stood there before, only their numbers are read. Else
one regular expression finds the family's lines of the usual shape. A count of all lines that begin with the name of the
family guards both: any line that was not taken (timestamps, braces or blanks in odd places) sends the block's lines of
that family to prometheus_client's own parser. Broken lines refuse the page; other families' lines are not looked at.
"""

import re
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress

import msgspec

from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import BrokenPage, parsed_line
from limiter.clients.page_order import PageOrder
from limiter.domain.columns import Column

COMMENT = re.compile(rb"\n#[^\n]*")
NUMBERS = msgspec.json.Decoder(list[float])  # a third of the time of float(), one by one
# What a line may begin with: the mark of UTF-8 stands where a page begins that some program wrote as a file.
BLANKS = (b" ", b"\t", b"\r", b"\v", b"\f", b"\xef\xbb\xbf")
MOST = 1e18  # calls: no counter gets there, and sums of larger ones could overflow


class NoFamily(Exception):
    """The family is not on the page at all."""


@dataclass(slots=True)
class Series:
    """What a page has of a family: values and unreadable ones by series, and each series' model name."""

    counters: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


class FamilyReader:
    """Takes a page in blocks of whole lines, each with the line feed before it."""

    def __init__(self, cache: SeriesCache) -> None:
        name = re.escape(cache.family.metric.encode())
        self._cache = cache
        self._metric = cache.family.metric
        self._name = b"\n" + cache.family.metric.encode()
        # One space, a plain number, no timestamp: how every client library writes.
        self._usual = re.compile(rb"\n" + name + rb"(\{[^{}\n]*\}) ([0-9.eE+-]+)(?=\r?\n)")
        line = rb"(" + name + rb"(?:[ \t\r\v\f]*\{|[ \t\r\v\f])[^\n]*)(?=\n)"
        self._any = re.compile(rb"\n" + line)
        self._indented = re.compile(rb"\n(?:" + b"|".join(BLANKS) + rb")*" + line)
        base = re.escape(cache.family.metric.removesuffix("_total").encode())
        self._declared = re.compile(rb"\n# (?:TYPE|HELP) (?:" + name + rb"|" + base + rb")[ \t]")
        self._order = PageOrder(cache)
        self._values = array("d")
        self._odd: list[tuple[str, str, float]] = []
        self.there = False

    def finish(self) -> Series:
        """What the whole page held; it may be nothing. Raises BrokenPage."""
        page = self._order.finish()
        layout, counts = page.layout, page.counts
        values = self._values if counts is None else array("d", compress(self._values, counts))
        if not self._odd and (not values or 0 <= min(values) <= max(values) <= MOST):
            return Series(Column(layout, values), Column(layout, layout.names))
        return _sorted_out([*zip(layout.series, layout.names, values, strict=True), *self._odd])

    def read(self, block: bytes) -> bytes:
        """Take the next block; returns it, or what stands before and after the family's lines. Raises BrokenPage."""
        rest = self._follow(block) if self._order.knows_more else None
        if rest is None:
            self._read(block)
        return block if rest is None else rest

    def _read(self, block: bytes) -> None:
        named = block.count(self._name[1:])
        if not named:
            if not self.there:
                self.there = self._declared.search(block) is not None
            return
        usual = self._usual.findall(block)
        if len(usual) == named:  # the name stands nowhere else in the block
            self._take(usual)
            return
        # A line may begin with blanks; to search for that everywhere would cost the search its literal prefix.
        indented = any(blank + self._name[1:] in block for blank in BLANKS)
        lines = (self._indented if indented else self._any).findall(block)
        self.there = self.there or bool(lines) or self._declared.search(block) is not None
        if len(usual) == len(lines):
            self._take(usual)
        else:
            self._odd.extend(found for line in lines if (found := self._odd_line(line)) is not None)

    def _follow(self, block: bytes) -> bytes | None:
        """Take a block that has label sets of the last page, one after the other; None if it has not.

        Returns what else stands there.
        """
        before, *lines = block.split(self._name)
        if not lines:
            return None
        lines[-1], _, after = lines[-1].partition(b"\n")
        rest = before + b"\n" + after
        known = self._order.following(lines[0].rpartition(b" ")[0], len(lines))
        if len(known) < len(lines) or not all(map(bytes.startswith, lines, known)):
            return None
        if self._name[1:] in rest and rest.count(self._name[1:]) > sum(
            comment.count(self._name[1:]) for comment in COMMENT.findall(rest)
        ):
            return None  # a line may begin with blanks
        values = _numbers([line[len(raw) :] for line, raw in zip(lines, known, strict=True)])
        if values is None:
            return None
        self._order.take(known)
        self._values.extend(values)
        self.there = True
        return rest

    def _take(self, usual: list[tuple[bytes, bytes]]) -> None:
        if not usual:
            return
        self.there = True
        raws = [raw for raw, _ in usual]
        try:
            self._values.extend([float(value) for _, value in usual])
        except ValueError as error:
            raise BrokenPage(f"{error}: not a number") from None
        self._order.take(raws)

    def _odd_line(self, line: bytes) -> tuple[str, str, float] | None:
        labels, value = parsed_line(self._metric, line.strip())
        series = self._cache.family.series(labels)
        return None if series is None else (*series, value)


def _numbers(numbers: list[bytes]) -> list[float] | None:
    """What the numbers say; None if some of them is not written as in JSON, as nearly all are."""
    listed = b",".join(numbers)
    if b"\n" in listed:
        return None  # for JSON a blank; but a number is on the line of its label set
    try:
        found = NUMBERS.decode(b"[" + listed + b"]")
    except msgspec.DecodeError:
        return None
    return found if len(found) == len(numbers) else None


def _sorted_out(rows: Iterable[tuple[str, str, float]]) -> Series:
    """Readable and unreadable values apart, one by one."""
    counters, names, unreadable = dict[str, float](), dict[str, str](), dict[str, str]()
    for key, name, value in rows:
        if key in names:
            raise BrokenPage(f"series {{{key}}} stands twice on the page")
        names[key] = name
        if 0 <= value <= MOST:
            counters[key] = value
        else:
            unreadable[key] = name
    return Series(counters, names, unreadable)
