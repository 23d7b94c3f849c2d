"""What is remembered of a target and of the use of a model, as rows and back."""

import json
from typing import Any

from limiter.domain.columns import Column
from limiter.domain.rates import Sample
from limiter.domain.usage import TargetMemory, Usage

TARGET = (
    "target",
    "first_read_at",
    "read_at",
    "started_at",
    "rate",
    "silent",
    "matched_at",
    "page_digest",
    "stale",
    "read_as",
)


def target_of(row: Any, counters: Column[float], names: Column[str]) -> TargetMemory:
    return TargetMemory(
        target=row.target,
        first_read_at=row.first_read_at,
        read_at=row.read_at,
        started_at=row.started_at,
        rate=row.rate,
        counters=counters,
        names=names,
        silent=row.silent,
        matched_at=row.matched_at,
        page_digest=row.page_digest,
        stale=row.stale,
        read_as=row.read_as,
    )


def target_row(_: str, target: TargetMemory) -> tuple[Any, ...]:
    return tuple(getattr(target, name) for name in TARGET)


def usage_row(name: str, used: Usage) -> tuple[Any, ...]:
    return (name, used.last_used_at, json.dumps(used.samples))


def usage_of(row: Any) -> Usage:
    return Usage(row.last_used_at, tuple(Sample(*sample) for sample in json.loads(row.samples)))
