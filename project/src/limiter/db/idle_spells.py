"""Idle spells; one moves along the arrows of `domain.idle_spell` only."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, any_, bindparam, column, func, or_, select, text, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import cancellations, ledger, scaling_states
from limiter.db.bulk import streamed
from limiter.db.spell_rows import spell_of, values_of
from limiter.db.tables import OPEN_SQL, idle_spell
from limiter.domain.decision import Reason
from limiter.domain.idle_spell import ARROWS, OPEN_STATES, IdleSpell, SpellState
from limiter.domain.snapshot import BookingKey


async def open_spells(connection: AsyncConnection) -> dict[BookingKey, IdleSpell]:
    """Every spell that has not ended, who waited longest first, with the slots that its warning names."""
    return await _open_spells(connection, true())


async def open_spells_of(connection: AsyncConnection, model_name: str) -> list[IdleSpell]:
    """The open spells of a model that has this name now, or had it when the spell began, likewise."""
    running = idle_spell.c.model_id.in_(scaling_states.named(model_name))
    return list((await _open_spells(connection, or_(idle_spell.c.model_name == model_name, running))).values())


async def _open_spells(connection: AsyncConnection, which: ColumnElement[bool]) -> dict[BookingKey, IdleSpell]:
    order = (idle_spell.c.opened_at, idle_spell.c.model_id, idle_spell.c.user_id)
    query = select(idle_spell).where(idle_spell.c.state.in_(OPEN_STATES), which).order_by(*order)
    rows = (await connection.execute(query)).all()
    if not rows:
        return {}
    ids = [row.id for row in rows]
    steps, uninstalls = await cancellations.of_spells(connection, ids), await ledger.for_spells(connection, ids)
    return {(row.model_id, row.user_id): spell_of(row, steps.get(row.id, ()), uninstalls.get(row.id)) for row in rows}


async def stays_open(connection: AsyncConnection, id: UUID) -> bool:
    """Whether the spell is open, and so until the transaction ends."""
    query = select(idle_spell.c.id).where(idle_spell.c.id == id, idle_spell.c.state.in_(OPEN_STATES))
    return (await connection.execute(query.with_for_update(read=True))).first() is not None


async def locked(connection: AsyncConnection, spell: IdleSpell) -> IdleSpell:
    """The spell as it is now, locked until the transaction ends."""
    query = select(idle_spell).where(idle_spell.c.id == spell.id).with_for_update()
    row = (await connection.execute(query)).one()
    uninstall = (await ledger.for_spells(connection, [spell.id])).get(spell.id)
    return spell_of(row, await cancellations.load(connection, spell.id), uninstall)


async def closed_at(connection: AsyncConnection, keys: Collection[BookingKey]) -> dict[BookingKey, datetime]:
    """When the latest ended spell of each of these ended, however long ago: no idle time reaches back beyond it."""
    if not keys:
        return {}
    # One look into the index for each: the ended spells of all time are many more.
    ids = [bindparam(None, list(of), type_=ARRAY(Uuid)) for of in zip(*keys, strict=True)]
    columns = (column("model_id", Uuid), column("user_id", Uuid))
    theirs = func.unnest(*ids).table_valued(*columns).render_derived(name="theirs")
    same = (idle_spell.c.model_id == theirs.c.model_id) & (idle_spell.c.user_id == theirs.c.user_id)
    latest = select(func.max(idle_spell.c.closed_at)).where(same).scalar_subquery()
    rows = streamed(connection, select(theirs.c.model_id, theirs.c.user_id, latest))
    return {(model_id, user_id): at async for model_id, user_id, at in rows if at is not None}


async def begin(connection: AsyncConnection, new: IdleSpell, reason: Reason) -> bool:
    """Record a new spell; false if the booking has an open one."""
    statement = insert(idle_spell).values(values_of(new, reason))
    only_one = statement.on_conflict_do_nothing(index_elements=["model_id", "user_id"], index_where=text(OPEN_SQL))
    if not (await connection.execute(only_one)).rowcount:
        return False
    await cancellations.name(connection, new.id, new.named)
    return True


async def move(
    connection: AsyncConnection,
    id: UUID,
    to: SpellState,
    reason: Reason,
    at: datetime,
    judged: Collection[SpellState] = OPEN_STATES,
) -> bool:
    """Move a spell along an arrow; false if another job has moved it elsewhere meanwhile.

    It moves only from one of the `judged` states: what was decided of a spell of which nothing was taken yet does not
    hold once its cancelling has begun.
    """
    sources = [source for source, arrows in ARROWS.items() if to in arrows and source in judged]
    values: dict[str, Any] = {"state": to, "reason": reason}
    if to not in OPEN_STATES:
        values["closed_at"] = at
    if to is SpellState.ENFORCING:
        values["enforcing_at"] = at
    moved = update(idle_spell).where(idle_spell.c.id == id, idle_spell.c.state.in_(sources)).values(values)
    return bool((await connection.execute(moved)).rowcount)


async def stopped(connection: AsyncConnection, id: UUID, reason: Reason) -> None:
    """The cancelling of this spell ends before its end."""
    await connection.execute(update(idle_spell).where(idle_spell.c.id == id).values(stopped_for=reason))


async def settled(connection: AsyncConnection, id: UUID, at: datetime) -> None:
    """No step of this spell is left; only the first such moment counts."""
    first = (idle_spell.c.id == id) & idle_spell.c.settled_at.is_(None)
    await connection.execute(update(idle_spell).where(first).values(settled_at=at))


async def promised(connection: AsyncConnection, moments: Mapping[UUID, datetime]) -> None:
    """What the warnings of these spells say as their earliest cancelling, as they go out."""
    for id, moment in moments.items():
        pending = (idle_spell.c.id == id) & (idle_spell.c.state == SpellState.WARNING_PENDING)
        await connection.execute(update(idle_spell).where(pending).values(not_before=moment))


async def warned_of(connection: AsyncConnection, ids: Collection[UUID]) -> dict[UUID, IdleSpell]:
    """These spells, open or closed, with the slots that their warnings name."""
    if not ids:
        return {}
    wanted = idle_spell.c.id == any_(bindparam(None, list(ids), type_=ARRAY(Uuid)))
    steps = await cancellations.of_spells(connection, ids)
    rows = await connection.execute(select(idle_spell).where(wanted))
    return {row.id: spell_of(row, steps.get(row.id, ())) for row in rows}


async def delivered(connection: AsyncConnection, ids: Collection[UUID], at: datetime) -> None:
    """The broker has confirmed and routed the warnings of these spells."""
    wanted = idle_spell.c.id == any_(bindparam(None, list(ids), type_=ARRAY(Uuid)))
    pending = update(idle_spell).where(wanted, idle_spell.c.state == SpellState.WARNING_PENDING)
    await connection.execute(pending.values(state=SpellState.WARNED, delivered_at=at))


async def begun_since(connection: AsyncConnection, since: datetime) -> set[BookingKey]:
    """The bookings of which a cancelling has begun since then."""
    query = select(idle_spell.c.model_id, idle_spell.c.user_id)
    rows = await connection.execute(query.where(idle_spell.c.enforcing_at > since, ~idle_spell.c.dry_run))
    return {(row.model_id, row.user_id) for row in rows}


async def enforcing(connection: AsyncConnection) -> int:
    """How many models have bookings that are being cancelled."""
    models = func.count(idle_spell.c.model_id.distinct())
    return await connection.scalar(select(models).where(idle_spell.c.state == SpellState.ENFORCING)) or 0
