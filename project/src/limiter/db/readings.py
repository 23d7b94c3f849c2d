"""What rps_check remembers of the readings: counters, use, gaps."""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from sys import intern
from typing import Any

from sqlalchemy import ColumnElement, any_, delete, exists, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import tables
from limiter.db.bulk import streamed, texts, upsert
from limiter.db.reading_rows import TARGET, target_of, target_row, usage_of, usage_row
from limiter.domain.columns import Column, Layout, changes, rows
from limiter.domain.usage import Gap, Memory, TargetMemory

SERIES = ("target", "series", "model_name", "value")


async def load(connection: AsyncConnection, targets: Collection[str]) -> Memory:
    """The memory of these targets as the last run of rps_check left it."""
    known = await load_targets(connection, targets)
    return Memory(
        {row.target: await _loaded(connection, row) for row in known.values()},
        {row.model_name: usage_of(row) async for row in streamed(connection, select(tables.usage))},
        tuple(Gap(*row) for row in await connection.execute(select(tables.gap))),
    )


async def last_used(connection: AsyncConnection, names: Collection[str]) -> dict[str, datetime]:
    """When the models of these names were last called, as far as that is known."""
    ours = tables.usage.c.model_name == any_(texts(names))
    found = await connection.execute(select(tables.usage.c.model_name, tables.usage.c.last_used_at).where(ours))
    return {row.model_name: row.last_used_at for row in found}


async def load_targets(connection: AsyncConnection, targets: Collection[str]) -> dict[str, Any]:
    """The rows of these targets, without their series."""
    found = await connection.execute(select(*(tables.target.c[name] for name in TARGET)))
    return {row.target: row for row in found if row.target in targets}


def target_rows(memory: Memory) -> dict[str, tuple[Any, ...]]:
    """The rows that stand for the targets of this memory."""
    return {name: target_row(name, target) for name, target in memory.targets.items()}


async def _loaded(connection: AsyncConnection, row: Any) -> TargetMemory:
    """A target with its series."""
    series, names, values = list[str](), list[str](), array("d")
    ours = select(tables.series.c.series, tables.series.c.model_name, tables.series.c.value)
    async for one, name, value in streamed(connection, ours.where(tables.series.c.target == row.target)):
        series.append(one)
        names.append(intern(name))  # each model's name stands in several series of several targets
        values.append(value)
    layout = Layout(series, names)
    return target_of(row, Column(layout, values), Column(layout, names))


@dataclass(frozen=True, slots=True)
class Changed:
    """The rows that a tick changes, and the series that are gone, by target."""

    targets: Sequence[tuple[Any, ...]]
    series: Sequence[Iterable[tuple[Any, ...]]]
    gone: Mapping[str, Collection[str]]
    usage: Sequence[tuple[Any, ...]]
    gaps: Sequence[tuple[Any, ...]]


def changed(before: Memory, after: Memory) -> Changed:
    """What to write, and only that; pure work, for a thread."""
    series = []
    gone = {}
    for name, target in after.targets.items():
        vanished, rewritten = _series(before.targets.get(name), target)
        series.append(rewritten)
        if vanished:
            gone[name] = vanished
    known = set(before.gaps)
    return Changed(
        targets=_changed(target_row, before.targets, after.targets),
        series=series,
        gone=gone,
        usage=_changed(usage_row, before.usage, after.usage),
        gaps=[(gap.target, gap.since, gap.until) for gap in after.gaps if gap not in known],
    )


async def save(connection: AsyncConnection, rows: Changed) -> None:
    """Write what changed."""
    await upsert(connection, tables.target, TARGET, rows.targets)
    for target, series in rows.gone.items():
        ours = (tables.series.c.target == target) & (tables.series.c.series == any_(texts(series)))
        await connection.execute(delete(tables.series).where(ours))
    await upsert(connection, tables.series, SERIES, chain.from_iterable(rows.series))
    await upsert(connection, tables.usage, ("model_name", "last_used_at", "samples"), rows.usage)
    await upsert(connection, tables.gap, ("target", "since", "until"), rows.gaps)


def _changed(row: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Any]:
    return [row(name, value) for name, value in after.items() if before.get(name) is not value]


def _series(before: TargetMemory | None, after: TargetMemory) -> tuple[Collection[str], Iterable[tuple[Any, ...]]]:
    """The series to delete, and the rows to write, made one by one: of a first page they would fill the memory."""
    old = before.counters if before else {}
    if old is after.counters:
        return (), []
    found = changes(old, after.counters)
    if found is not None:
        return found.vanished, ((after.target, *row) for row in found.rows())
    known = dict(old)
    all = rows(after.counters, after.names)
    written = ((after.target, series, name, value) for series, name, value in all if known.get(series) != value)
    return known.keys() - after.counters.keys(), written


async def forget_targets(
    connection: AsyncConnection, before: datetime, batch: int, configured: Collection[str] = ()
) -> int:
    """Drop targets not read since `before`, and their series: at most `batch` rows; returns how many it were.

    Those still `configured` stay: one that cannot be read for long must not lose what it counted before.
    """
    target, series = tables.target, tables.series
    old = select(target.c.target).where(target.c.read_at < before, ~(target.c.target == any_(texts(configured))))
    row: ColumnElement[Any] = literal_column("ctid")
    some = select(row).select_from(series).where(series.c.target.in_(old)).limit(batch)
    dropped = (await connection.execute(delete(series).where(row == any_(func.array(some.scalar_subquery()))))).rowcount
    if dropped < batch:
        left = select(row).select_from(target).where(target.c.target.in_(old)).limit(batch - dropped)
        empty = ~exists().where(series.c.target == target.c.target)
        gone = delete(target).where(row == any_(func.array(left.scalar_subquery())), empty)
        dropped += (await connection.execute(gone)).rowcount
    return dropped
