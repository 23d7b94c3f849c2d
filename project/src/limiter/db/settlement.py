"""How commands end: as they were judged, and not if they were sent, or answered, in the meantime."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import saga_times
from limiter.db.ledger import command_of, unfinished_of
from limiter.db.tables import command
from limiter.domain.command import UNFINISHED, Command, CommandState


def _end(state: CommandState, at: datetime, error: str | None) -> dict[str, object]:
    failures = command.c.failures + 1 if state is CommandState.FAILED else 0
    return {"state": state, "finished_at": at, "error": error, "failures": failures}


def _as_judged(judged: Command) -> ColumnElement[bool]:
    """The command, unfinished, and neither sent nor answered since it was read."""
    return and_(
        command.c.id == judged.id,
        command.c.state.in_(UNFINISHED),
        command.c.sent_at.is_not_distinct_from(judged.sent_at),
        command.c.saga_id.is_not_distinct_from(judged.saga_id),
    )


async def settle(
    connection: AsyncConnection,
    judged: Command,
    state: CommandState,
    at: datetime,
    error: str | None = None,
    *,
    followed: bool = False,
    forbidden: bool = False,
) -> bool:
    """End an unfinished command; false if it has ended already, or is not as it was judged.

    One whose saga was `followed` to its end tells how long sagas take. One that was `forbidden` before it was sent has
    failed without a failure, and no other has to wait for it.
    """
    values = _end(state, at, error) | ({"failures": 0} if forbidden else {})
    ended = update(command).where(_as_judged(judged)).values(values).returning(command)
    row = (await connection.execute(ended)).first()
    if row is not None and followed and state is CommandState.COMPLETED:
        await saga_times.note(connection, command_of(row))
    return row is not None


async def settle_by_hand(
    connection: AsyncConnection, model_name: str, state: CommandState, at: datetime, why: str
) -> list[Command]:
    """End the unfinished commands of all instances of a model, as a person says; returns them as they ended."""
    ended = update(command).where(unfinished_of(model_name)).values(_end(state, at, why)).returning(command)
    return [command_of(row) for row in await connection.execute(ended)]


async def drop_unsent(connection: AsyncConnection, at: datetime, why: str) -> None:
    """End every command that was planned and, as far as is recorded, never sent."""
    unsent = and_(command.c.state == CommandState.PLANNED, command.c.sent_at.is_(None))
    await connection.execute(update(command).where(unsent).values(_end(CommandState.FAILED, at, why)))


async def mark_stuck(connection: AsyncConnection, judged: Command, error: str) -> bool:
    """Mark an unfinished command as stuck; false if it was already, or is not as it was judged."""
    unstuck = and_(_as_judged(judged), command.c.state != CommandState.STUCK)
    marked = update(command).where(unstuck).values(state=CommandState.STUCK, error=error)
    return bool((await connection.execute(marked)).rowcount)
