"""Label sets as they stand on a Prometheus text page: which series of which model they are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2s
from sys import intern
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from limiter.domain.shard import EVERY_MODEL, Shard

AT_ONCE = 2000  # label sets: no other thread goes on while one search lasts, here 2 ms
LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="([^"\\\n]*)"')
LABELS = re.compile(rb"\{" + LABEL.pattern + rb"(?:," + LABEL.pattern + rb")*\}")


class BrokenPage(Exception):
    """The page is not a Prometheus text page, or it is cut off."""


@dataclass(frozen=True, slots=True)
class Family:
    """Which family to read: its name, the label with the model's name, and labels a series must carry to count.

    Of the models, only those of the shard count.
    """

    metric: str
    label: str
    match: Mapping[str, str] = field(default_factory=dict)
    shard: Shard = EVERY_MODEL

    @property
    def fingerprint(self) -> str:
        """Sixteen characters that are others if other series may count."""
        read = repr((self.metric, self.label, sorted(self.match.items()), str(self.shard)))
        return blake2s(read.encode(), digest_size=8).hexdigest()

    def series(self, labels: Mapping[str, str]) -> tuple[str, str] | None:
        """The canonical series of these labels and its model name; None if it does not count."""
        if any(labels.get(key) != value for key, value in self.match.items()):
            return None
        name = self.minded(labels.get(self.label))
        return None if name is None else (",".join(f"{key}={labels[key]!r}" for key in sorted(labels)), name)

    def minded(self, name: str | None) -> str | None:
        """The name, once for all series that have it, if its series count."""
        # No running model has a NUL in its name, and Postgres could not store it.
        return intern(name) if name is not None and "\x00" not in name and self.shard.minds(name) else None

    def parsed(self, raw: bytes) -> tuple[str, str] | None:
        """Series and model name of a raw label set, by prometheus_client's parser; None if it does not count."""
        return self.series(parsed_line(self.metric, self.metric.encode() + raw + b" 0")[0])


class Shape:
    """Label sets with the same labels in the same order and no escape, as all that one process writes.

    prometheus_client's parser takes 70 µs for a label set, which is six seconds for the first page of a large platform.
    """

    def __init__(self, family: Family, labels: Sequence[bytes]) -> None:
        """`labels` are the names of the labels, in order."""
        self._family = family
        self._pattern = re.compile(rb"\{" + rb",".join(name + rb'="([^"\\\n]*)"' for name in labels) + rb"\}")
        self.labels = [name.decode() for name in labels]
        self._order = sorted(range(len(labels)), key=self.labels.__getitem__)
        self._series = ",".join(f"{self.labels[place]}=%r" for place in self._order)

    @classmethod
    def of(cls, family: Family, raw: bytes) -> "Shape | None":
        """The shape of this label set; None if it has none."""
        labels = [name for name, _ in LABEL.findall(raw)] if LABELS.fullmatch(raw) else []
        return cls(family, labels) if labels and len(set(labels)) == len(labels) else None

    def series(self, raw: bytes) -> str | None:
        """The canonical series of the label set; None if it is of another shape."""
        found = self._pattern.fullmatch(raw)
        return found and self._series % tuple(found[place + 1].decode() for place in self._order)

    def names(self, raws: Sequence[bytes]) -> list[str | None] | None:
        """The model's name of each label set, None where it does not count; None if one is of another shape."""
        names: list[str | None] = []
        for start in range(0, len(raws), AT_ONCE):
            some = self._names(raws[start : start + AT_ONCE])
            if some is None:
                return None
            names += some
        return names

    def _names(self, raws: Sequence[bytes]) -> list[str | None] | None:
        text = b"\n".join(raws)
        rows: list[Any] = self._pattern.findall(text)
        if len(rows) < len(raws) or not _is_text(text):
            return None
        wanted, label = self._family.match, self._family.label
        if label not in self.labels or not wanted.keys() <= set(self.labels):
            return [None] * len(raws)
        if len(self.labels) == 1:
            rows = [(one,) for one in rows]
        place = self.labels.index(label)
        names = self._minded(row[place] for row in rows)
        if wanted:
            conditions = [(self.labels.index(key), value.encode()) for key, value in wanted.items()]
            matching = (all(row[place] == value for place, value in conditions) for row in rows)
            return [name if counts else None for name, counts in zip(names, matching, strict=True)]
        return names

    def _minded(self, raw_names: Iterable[bytes]) -> list[str | None]:
        """Each name, if its series count; series of one name stand together, and it is looked at once."""
        known: dict[bytes, str | None] = {}
        names = []
        for raw in raw_names:
            if raw not in known:
                known[raw] = self._family.minded(raw.decode())
            names.append(known[raw])
        return names


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def parsed_line(metric: str, line: bytes) -> tuple[dict[str, str], float]:
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
