"""What rps_check remembers of the readings: counters, use, gaps."""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, any_, bindparam, delete, exists, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import tables
from limiter.db.bulk import upsert
from limiter.domain.usage import Gap, Memory, Sample, TargetMemory, Usage

TARGET = ("target", "first_read_at", "read_at", "started_at", "rate", "silent", "matched_at", "page_digest", "stale")


async def load(connection: AsyncConnection, targets: Collection[str]) -> Memory:
    """The memory of these targets as the last run of rps_check left it."""
    counters: dict[str, dict[str, float]] = {target: {} for target in targets}
    names: dict[str, dict[str, str]] = {target: {} for target in targets}
    for row in await connection.execute(select(tables.series).where(tables.series.c.target == any_(_texts(targets)))):
        counters[row.target][row.series] = row.value
        names[row.target][row.series] = row.model_name
    known = await connection.execute(select(*(tables.target.c[name] for name in TARGET)))
    return Memory(
        {row.target: _target(row, counters[row.target], names[row.target]) for row in known if row.target in counters},
        {row.model_name: _usage(row) for row in await connection.execute(select(tables.usage))},
        tuple(Gap(*row) for row in await connection.execute(select(tables.gap))),
    )


async def save(connection: AsyncConnection, before: Memory, after: Memory) -> None:
    """Write what changed, and only that."""
    await upsert(connection, tables.target, TARGET, _changed(_target_row, before.targets, after.targets))
    for name, target in after.targets.items():
        await _save_series(connection, before.targets.get(name), target)
    used = _changed(_usage_row, before.usage, after.usage)
    await upsert(connection, tables.usage, ("model_name", "last_used_at", "samples"), used)
    known = set(before.gaps)
    gaps = [(gap.target, gap.since, gap.until) for gap in after.gaps if gap not in known]
    await upsert(connection, tables.gap, ("target", "since", "until"), gaps)


def _changed(row: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Any]:
    return [row(name, value) for name, value in after.items() if before.get(name) is not value]


def _target(row: Any, counters: dict[str, float], names: dict[str, str]) -> TargetMemory:
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
    )


def _target_row(_: str, target: TargetMemory) -> tuple[Any, ...]:
    return tuple(getattr(target, name) for name in TARGET)


def _usage_row(name: str, used: Usage) -> tuple[Any, ...]:
    return (name, used.last_used_at, json.dumps(used.samples))


def _usage(row: Any) -> Usage:
    return Usage(row.last_used_at, tuple(Sample(*sample) for sample in json.loads(row.samples)))


async def _save_series(connection: AsyncConnection, before: TargetMemory | None, after: TargetMemory) -> None:
    old = before.counters if before else {}
    if old is after.counters:
        return
    gone = old.keys() - after.counters.keys()
    if gone:
        ours = (tables.series.c.target == after.target) & (tables.series.c.series == any_(_texts(gone)))
        await connection.execute(delete(tables.series).where(ours))
    changed = [
        (after.target, series, after.names[series], value)
        for series, value in after.counters.items()
        if old.get(series) != value
    ]
    await upsert(connection, tables.series, ("target", "series", "model_name", "value"), changed)


async def forget(connection: AsyncConnection, before: datetime) -> None:
    """Drop gaps and uses that ended so long ago that no decision can depend on them."""
    await connection.execute(delete(tables.gap).where(tables.gap.c.until < before))
    await connection.execute(delete(tables.usage).where(tables.usage.c.last_used_at < before))


async def forget_targets(
    connection: AsyncConnection, before: datetime, batch: int, configured: Collection[str] = ()
) -> int:
    """Drop targets not read since `before`, and their series: at most `batch` rows; returns how many it were.

    Those still `configured` stay: one that cannot be read for long must not lose what it counted before.
    """
    target, series = tables.target, tables.series
    old = select(target.c.target).where(target.c.read_at < before, ~(target.c.target == any_(_texts(configured))))
    row: ColumnElement[Any] = literal_column("ctid")
    some = select(row).select_from(series).where(series.c.target.in_(old)).limit(batch)
    dropped = (await connection.execute(delete(series).where(row == any_(func.array(some.scalar_subquery()))))).rowcount
    if dropped < batch:
        left = select(row).select_from(target).where(target.c.target.in_(old)).limit(batch - dropped)
        empty = ~exists().where(series.c.target == target.c.target)
        gone = delete(target).where(row == any_(func.array(left.scalar_subquery())), empty)
        dropped += (await connection.execute(gone)).rowcount
    return dropped


def _texts(values: Collection[str]) -> Any:
    """The values as one array: one parameter, however many."""
    return bindparam(None, list(values), type_=ARRAY(Text()))
