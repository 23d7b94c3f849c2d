"""The cancellations that an idle spell led to: planned before any DELETE is sent, settled one by one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import cancellation
from limiter.domain.reservations import Cancellation, Slot


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


async def plan(connection: AsyncConnection, spell_id: UUID, steps: Sequence[Cancellation]) -> None:
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


async def load(connection: AsyncConnection, spell_id: UUID) -> list[Step]:
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


async def settle(
    connection: AsyncConnection, spell_id: UUID, slots: Collection[Slot], state: StepState, error: str | None = None
) -> None:
    """Record how the cancelling of these slots ended."""
    ours = update(cancellation).where(
        cancellation.c.spell_id == spell_id,
        cancellation.c.slot_id.in_([slot.id for slot in slots]),
        cancellation.c.state == StepState.PLANNED,
    )
    await connection.execute(ours.values(state=state, error=error))


def pending_deletes(steps: Sequence[Step]) -> list[Cancellation]:
    """The DELETEs still to be sent: one per whole reservation, else one per slot."""
    left = [step for step in steps if step.state is StepState.PLANNED]
    whole = sorted((step for step in left if step.whole), key=lambda step: step.slot.reservation_id)
    grouped = [
        Cancellation(reservation_id, tuple(step.slot for step in group), whole=True)
        for reservation_id, group in groupby(whole, key=lambda step: step.slot.reservation_id)
    ]
    single = [Cancellation(step.slot.reservation_id, (step.slot,), whole=False) for step in left if not step.whole]
    return sorted(grouped + single, key=lambda delete: delete.slots[0].start)
