"""Keeps, in force and ended: an ended one excuses idle time before its end."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.bulk import texts
from limiter.db.tables import keep as keeps
from limiter.domain.keep import Keep

_ORDER = (keeps.c.until, keeps.c.id)


async def add(connection: AsyncConnection, keep: Keep) -> datetime:
    """Record a keep beside those that are there; returns its user's latest end, which decides."""
    values = {
        "model_name": keep.model_name,
        "user_id": keep.user_id,
        "since": keep.since,
        "until": keep.until,
        "reason": keep.reason,
        "by": keep.by,
    }
    await connection.execute(insert(keeps).values(values))
    latest = select(func.max(keeps.c.until)).where(*_of(keep.model_name, keep.user_id))
    until: datetime = (await connection.execute(latest)).scalar_one()
    return until.astimezone(UTC)


async def end(connection: AsyncConnection, model_name: str, user_id: UUID | None, at: datetime) -> int:
    """End the keeps in force of exactly this model and user, None being all users; returns how many there were."""
    open_ones = update(keeps).where(*_of(model_name, user_id), keeps.c.until > at)
    return (await connection.execute(open_ones.values(until=at))).rowcount


async def go_along(connection: AsyncConnection, renamed: Collection[tuple[str, str]]) -> None:
    """Keep renamed models by their new names as by the old ones, which other instances may have still.

    All at once: in `m` to `k` and `k` to `j`, what was kept as `m` is not kept as `j`.
    """
    if not renamed:
        return
    was, now = zip(*renamed, strict=True)
    pairs = func.unnest(texts(was), texts(now)).table_valued("was", "now").render_derived(name="pairs")
    names = ("user_id", "since", "until", "reason", "by")
    there = keeps.alias("there")
    same = and_(there.c.user_id.is_not_distinct_from(keeps.c.user_id), there.c.until == keeps.c.until)
    known = exists().where(there.c.model_name == pairs.c.now, same)
    old = select(pairs.c.now, *(keeps.c[name] for name in names)).where(keeps.c.model_name == pairs.c.was)
    await connection.execute(insert(keeps).from_select(("model_name", *names), old.where(~known)))


async def active_or_ended_since(connection: AsyncConnection, since: datetime) -> list[Keep]:
    """Every keep that is in force, or ended after `since`."""
    rows = await connection.execute(select(keeps).where(keeps.c.until > since).order_by(*_ORDER))
    return [_keep(row) for row in rows]


async def in_force(connection: AsyncConnection, model_name: str, at: datetime, limit: int) -> list[Keep]:
    """The keeps of a model in force at `at`, the longest first."""
    query = select(keeps).where(keeps.c.model_name == model_name, keeps.c.until > at)
    rows = await connection.execute(query.order_by(*(column.desc() for column in _ORDER)).limit(limit))
    return [_keep(row) for row in rows]


def _of(model_name: str, user_id: UUID | None) -> tuple[ColumnElement[bool], ...]:
    """Whose keeps are meant, exactly: one user's, or those for all users."""
    return keeps.c.model_name == model_name, keeps.c.user_id.is_not_distinct_from(user_id)


def _keep(row: Any) -> Keep:
    since, until = row.since.astimezone(UTC), row.until.astimezone(UTC)
    return Keep(row.model_name, row.user_id, since, until, row.reason, row.by)
