"""The slots that a warning names and their cancelling: recorded before any DELETE is sent, settled one by one."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Text,
    Uuid,
    any_,
    bindparam,
    column,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.bulk import upsert
from limiter.db.tables import cancellation
from limiter.domain.idle_spell import OF_ANOTHER_MODEL, OPEN_STEPS, IdleSpell, Step, StepState
from limiter.domain.reservations import Slot

COLUMNS = ("spell_id", "reservation_id", "slot_id", "slot_start", "slot_end", "state")


async def name(connection: AsyncConnection, spell_id: UUID, slots: Iterable[Slot]) -> None:
    """Record which slots a warning puts at risk."""
    rows = [(spell_id, slot.reservation_id, slot.id, slot.start, slot.end, StepState.NAMED) for slot in slots]
    await upsert(connection, cancellation, COLUMNS, rows)


async def unname(connection: AsyncConnection, spell_id: UUID, slots: Collection[Slot]) -> None:
    """Record that a warning, which has not gone out yet, does not put these slots at risk any more."""
    ours = (cancellation.c.spell_id == spell_id) & (cancellation.c.state == StepState.NAMED)
    await connection.execute(delete(cancellation).where(ours, _among(slots)))


async def rebook(connection: AsyncConnection, spell: IdleSpell, booked: IdleSpell) -> None:
    """Record the times of the slots that are booked at others than the spell has them."""
    ours = (cancellation.c.spell_id == spell.id) & or_(*(cancellation.c.state == state for state in OPEN_STEPS))
    one = (cancellation.c.reservation_id == bindparam("of")) & (cancellation.c.slot_id == bindparam("id"))
    moved = update(cancellation).where(ours, one).values(slot_start=bindparam("start"), slot_end=bindparam("end"))
    slots = set(booked.slots(*OPEN_STEPS)) - set(spell.slots(*OPEN_STEPS))
    rows = [{"of": slot.reservation_id, "id": slot.id, "start": slot.start, "end": slot.end} for slot in slots]
    if rows:
        await connection.execute(moved, rows)


async def plan(
    connection: AsyncConnection, spell_id: UUID, left: Collection[Slot], elsewhere: Collection[Slot], now: datetime
) -> None:
    """The deadline has passed: plan to cancel what is left of the named slots, as `planned_steps` has it."""
    ours = (cancellation.c.spell_id == spell_id) & (cancellation.c.state == StepState.NAMED)
    if left:
        await connection.execute(update(cancellation).where(ours, _among(left)).values(state=StepState.PLANNED))
    if elsewhere:
        stays = {"state": StepState.STOPPED, "error": OF_ANOTHER_MODEL}
        await connection.execute(update(cancellation).where(ours, _among(elsewhere)).values(stays))
    over = cancellation.c.slot_end <= now
    await connection.execute(update(cancellation).where(ours, over).values(state=StepState.STOPPED, error="over"))
    await connection.execute(update(cancellation).where(ours).values(state=StepState.ALREADY_GONE))


async def load(connection: AsyncConnection, spell_id: UUID) -> tuple[Step, ...]:
    """The steps of a spell, in the order of their slots."""
    return (await of_spells(connection, [spell_id])).get(spell_id, ())


async def of_spells(connection: AsyncConnection, spell_ids: Collection[UUID]) -> dict[UUID, tuple[Step, ...]]:
    """The steps of several spells, each in the order of its slots."""
    wanted = cancellation.c.spell_id == any_(bindparam(None, list(spell_ids), type_=ARRAY(Uuid)))
    order = (cancellation.c.slot_start, cancellation.c.reservation_id, cancellation.c.slot_id)
    found = defaultdict[UUID, list[Step]](list)
    for row in await connection.execute(select(cancellation).where(wanted).order_by(*order)):
        found[row.spell_id].append(_step(row))
    return {spell_id: tuple(steps) for spell_id, steps in found.items()}


def _step(row: Any) -> Step:
    slot = Slot(row.slot_start, row.slot_end, row.slot_id, row.reservation_id)
    return Step(slot, StepState(row.state), row.attempts, row.next_try_at, row.in_flight_until)


async def settle(
    connection: AsyncConnection, spell_id: UUID, slots: Collection[Slot], state: StepState, error: str | None = None
) -> bool:
    """Record how the cancelling of these slots ended; false if somebody has ended it meanwhile."""
    ours = (cancellation.c.spell_id == spell_id) & (cancellation.c.state == StepState.PLANNED)
    ended = update(cancellation).where(ours, _among(slots)).values(state=state, error=error)
    return bool((await connection.execute(ended)).rowcount)


async def tried(connection: AsyncConnection, spell_id: UUID, slots: Collection[Slot], until: datetime) -> bool:
    """A DELETE of these slots is sent now: should its answer never be recorded, they may be gone, or go `until` then.

    False if not all of them are planned still, because somebody has closed the spell: then it must not be sent.
    """
    ours = (cancellation.c.spell_id == spell_id) & (cancellation.c.state == StepState.PLANNED)
    more = {"attempts": cancellation.c.attempts + 1, "in_flight_until": until}
    sent = update(cancellation).where(ours, _among(slots)).values(more)
    return bool((await connection.execute(sent)).rowcount == len(slots))


async def refused(
    connection: AsyncConnection,
    spell_id: UUID,
    steps: Collection[Step],
    next_try_at: datetime,
    error: str,
    *,
    undone: bool = False,
) -> None:
    """The cancelling of these slots was refused for now: it stays planned, and waits.

    `undone` if it said so itself; it says nothing of a DELETE sent before, which the steps, as they were then, tell of.
    """
    slots, earlier = [step.slot for step in steps], [step.in_flight_until for step in steps if step.in_flight_until]
    ours = (cancellation.c.spell_id == spell_id) & (cancellation.c.state == StepState.PLANNED)
    values: dict[str, Any] = {"next_try_at": next_try_at, "error": error}
    if undone:
        values["in_flight_until"] = max(earlier, default=None)
    await connection.execute(update(cancellation).where(ours, _among(slots)).values(values))


async def stop(connection: AsyncConnection, spell_id: UUID, *, untried_alone: bool = False) -> None:
    """What is left of a spell's steps is not taken; with `untried_alone`, of those whose DELETE was never sent."""
    ours = (cancellation.c.spell_id == spell_id) & cancellation.c.state.in_(OPEN_STEPS)
    if untried_alone:
        ours &= cancellation.c.attempts == 0
    await connection.execute(update(cancellation).where(ours).values(state=StepState.STOPPED))


def _among(slots: Collection[Slot]) -> ColumnElement[bool]:
    """A condition: the row is of one of these slots; two arrays, however many there are."""
    ids = [[slot.reservation_id for slot in slots], [slot.id for slot in slots]]
    columns = (column("reservation_id", Text), column("slot_id", Text))
    arrays = [bindparam(None, values, type_=ARRAY(Text)) for values in ids]
    wanted = func.unnest(*arrays).table_valued(*columns).render_derived(name="wanted")
    pair = tuple_(cancellation.c.reservation_id, cancellation.c.slot_id)
    return pair.in_(select(wanted.c.reservation_id, wanted.c.slot_id))
