"""Surges that stand, each with who allowed it."""

from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import surge
from limiter.domain.surge import Surge, SurgeKind


async def load(connection: AsyncConnection) -> dict[SurgeKind, Surge]:
    """The surges that stand, by kind."""
    rows = await connection.execute(select(surge))
    found = (Surge(SurgeKind(row.kind), row.since, row.allowed_at, row.allowed_by) for row in rows)
    return {one.kind: one for one in found}


async def begin(connection: AsyncConnection, kind: SurgeKind, at: datetime) -> bool:
    """Record a surge; false if it stands already, allowed or not."""
    new = insert(surge).values(kind=kind, since=at).on_conflict_do_nothing()
    return bool((await connection.execute(new)).rowcount)


async def end(connection: AsyncConnection, kind: SurgeKind) -> None:
    """Forget a surge whose share has fallen; the next one needs a new word of a person."""
    await connection.execute(delete(surge).where(surge.c.kind == kind))


async def allow(connection: AsyncConnection, at: datetime, by: str | None) -> list[SurgeKind]:
    """Allow every surge that stands; returns them, those that were allowed already too."""
    waiting = update(surge).where(surge.c.allowed_at.is_(None))
    await connection.execute(waiting.values(allowed_at=at, allowed_by=by))
    return [SurgeKind(kind) for kind in await connection.scalars(select(surge.c.kind).order_by(surge.c.kind))]
