"""Idle spells; one moves along the arrows of `domain.idleness` only."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import OPEN_SQL, idle_spell
from limiter.domain.decision import Reason
from limiter.domain.idleness import ARROWS, OPEN_STATES, IdleSpell, SpellState
from limiter.domain.reservations import Slot, User
from limiter.domain.snapshot import BookingKey


def _spell(row: Any) -> IdleSpell:
    return IdleSpell(
        id=row.id,
        model_id=row.model_id,
        model_name=row.model_name,
        user=User(row.user_id, row.user_name),
        state=SpellState(row.state),
        idle_since=row.idle_since,
        opened_at=row.opened_at,
        not_before=row.not_before,
        slot=Slot(row.slot_start, row.slot_end, row.slot_id, row.reservation_id),
        delivered_at=row.delivered_at,
        dry_run=row.dry_run,
    )


async def open_spells(connection: AsyncConnection) -> dict[BookingKey, IdleSpell]:
    """Every spell that has not ended."""
    order = (idle_spell.c.opened_at, idle_spell.c.model_id, idle_spell.c.user_id)  # who waited longest comes first
    rows = await connection.execute(select(idle_spell).where(idle_spell.c.state.in_(OPEN_STATES)).order_by(*order))
    return {(row.model_id, row.user_id): _spell(row) for row in rows}


async def closed_at(connection: AsyncConnection) -> dict[BookingKey, datetime]:
    """When the latest ended spell of each booking ended, however long ago: no idle time reaches back beyond it."""
    latest = func.max(idle_spell.c.closed_at)
    query = select(idle_spell.c.model_id, idle_spell.c.user_id, latest).where(idle_spell.c.closed_at.is_not(None))
    rows = await connection.execute(query.group_by(idle_spell.c.model_id, idle_spell.c.user_id))
    return {(model_id, user_id): at for model_id, user_id, at in rows}


async def begin(connection: AsyncConnection, new: IdleSpell, reason: Reason) -> bool:
    """Record a new spell; false if the booking has an open one."""
    values = {
        "id": new.id,
        "model_id": new.model_id,
        "model_name": new.model_name,
        "user_id": new.user.id,
        "user_name": new.user.name,
        "state": new.state,
        "reason": reason,
        "idle_since": new.idle_since,
        "opened_at": new.opened_at,
        "not_before": new.not_before,
        "delivered_at": new.delivered_at,
        "reservation_id": new.slot.reservation_id,
        "slot_id": new.slot.id,
        "slot_start": new.slot.start,
        "slot_end": new.slot.end,
        "dry_run": new.dry_run,
    }
    statement = insert(idle_spell).values(values)
    only_one = statement.on_conflict_do_nothing(index_elements=["model_id", "user_id"], index_where=text(OPEN_SQL))
    return bool((await connection.execute(only_one)).rowcount)


async def move(connection: AsyncConnection, id: UUID, to: SpellState, reason: Reason, at: datetime) -> bool:
    """Move a spell along an arrow; false if another job has moved it elsewhere meanwhile."""
    sources = [source for source, arrows in ARROWS.items() if to in arrows]
    values: dict[str, Any] = {"state": to, "reason": reason}
    if to not in OPEN_STATES:
        values["closed_at"] = at
    moved = update(idle_spell).where(idle_spell.c.id == id, idle_spell.c.state.in_(sources)).values(values)
    return bool((await connection.execute(moved)).rowcount)


async def delivered(connection: AsyncConnection, ids: Collection[UUID], at: datetime) -> None:
    """The broker has confirmed and routed the warnings of these spells."""
    pending = update(idle_spell).where(idle_spell.c.id.in_(ids), idle_spell.c.state == SpellState.WARNING_PENDING)
    await connection.execute(pending.values(state=SpellState.WARNED, delivered_at=at))


async def enforcing(connection: AsyncConnection) -> int:
    """How many models have bookings that are being cancelled."""
    models = func.count(idle_spell.c.model_id.distinct())
    return await connection.scalar(select(models).where(idle_spell.c.state == SpellState.ENFORCING)) or 0
