"""Idle spells and the cancellations they led to; a spell moves along the arrows of `domain.idleness` only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import OPEN_SQL, cancellation, spell
from limiter.domain.action import Reason
from limiter.domain.idleness import ARROWS, OPEN_STATES, Spell, SpellState
from limiter.domain.reservations import Cancellation, Slot, User
from limiter.domain.survey import Holder


class StepState(StrEnum):
    """How one cancellation stands."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"  # the model was used before this step's turn came


@dataclass(frozen=True, slots=True)
class Step:
    """One slot to cancel, or cancelled; the slots of a reservation that goes `whole` share one DELETE."""

    slot: Slot
    whole: bool
    state: StepState
    error: str | None


def _spell(row: Any) -> Spell:
    return Spell(
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


async def open_spells(connection: AsyncConnection) -> dict[Holder, Spell]:
    """Every spell that has not ended."""
    order = (spell.c.opened_at, spell.c.model_id, spell.c.user_id)  # who waited longest comes first
    rows = await connection.execute(select(spell).where(spell.c.state.in_(OPEN_STATES)).order_by(*order))
    return {(row.model_id, row.user_id): _spell(row) for row in rows}


async def closed_at(connection: AsyncConnection) -> dict[Holder, datetime]:
    """When the latest ended spell of each holder ended; however long ago, for no idle time reaches back beyond it."""
    latest = func.max(spell.c.closed_at)
    query = select(spell.c.model_id, spell.c.user_id, latest).where(spell.c.closed_at.is_not(None))
    rows = await connection.execute(query.group_by(spell.c.model_id, spell.c.user_id))
    return {(model_id, user_id): at for model_id, user_id, at in rows}


async def begin(connection: AsyncConnection, new: Spell, reason: Reason) -> bool:
    """Record a new spell; false if the holder has an open one."""
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
    statement = insert(spell).values(values)
    only_one = statement.on_conflict_do_nothing(index_elements=["model_id", "user_id"], index_where=text(OPEN_SQL))
    return bool((await connection.execute(only_one)).rowcount)


async def move(connection: AsyncConnection, id: UUID, to: SpellState, reason: Reason, at: datetime) -> bool:
    """Move a spell along an arrow; false if another job has moved it elsewhere meanwhile."""
    sources = [source for source, arrows in ARROWS.items() if to in arrows]
    values: dict[str, Any] = {"state": to, "reason": reason}
    if to not in OPEN_STATES:
        values["closed_at"] = at
    moved = update(spell).where(spell.c.id == id, spell.c.state.in_(sources)).values(values)
    return bool((await connection.execute(moved)).rowcount)


async def delivered(connection: AsyncConnection, ids: Collection[UUID], at: datetime) -> None:
    """The broker has confirmed and routed the warnings of these spells."""
    pending = update(spell).where(spell.c.id.in_(ids), spell.c.state == SpellState.WARNING_PENDING)
    await connection.execute(pending.values(state=SpellState.WARNED, delivered_at=at))


async def plan_steps(connection: AsyncConnection, spell_id: UUID, steps: Sequence[Cancellation]) -> None:
    """Record what is going to be cancelled, before anything is."""
    rows = [
        {
            "spell_id": spell_id,
            "reservation_id": step.reservation_id,
            "slot_id": slot.id,
            "slot_start": slot.start,
            "slot_end": slot.end,
            "whole": step.whole,
            "state": StepState.PLANNED,
        }
        for step in steps
        for slot in step.slots
    ]
    if rows:
        await connection.execute(insert(cancellation).values(rows))


async def steps(connection: AsyncConnection, spell_id: UUID) -> list[Step]:
    """The cancellations of a spell, in the order of their slots."""
    query = select(cancellation).where(cancellation.c.spell_id == spell_id).order_by(cancellation.c.slot_start)
    return [
        Step(
            Slot(row.slot_start, row.slot_end, row.slot_id, row.reservation_id),
            row.whole,
            StepState(row.state),
            row.error,
        )
        for row in await connection.execute(query)
    ]


async def settle_steps(
    connection: AsyncConnection, spell_id: UUID, slots: Collection[Slot], state: StepState, error: str | None = None
) -> None:
    """Record how the cancelling of these slots ended."""
    ours = update(cancellation).where(
        cancellation.c.spell_id == spell_id,
        cancellation.c.slot_id.in_([slot.id for slot in slots]),
        cancellation.c.state == StepState.PLANNED,
    )
    await connection.execute(ours.values(state=state, error=error))


async def enforcing(connection: AsyncConnection) -> int:
    """How many models have bookings being cancelled."""
    models = func.count(spell.c.model_id.distinct())
    return await connection.scalar(select(models).where(spell.c.state == SpellState.ENFORCING)) or 0
