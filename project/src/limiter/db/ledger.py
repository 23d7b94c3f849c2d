"""The commands sent to the dispatcher: intent first, then the answer, then the end.

The database itself allows one unfinished command per model, by a partial unique index.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import UNFINISHED_SQL, command
from limiter.domain.command import UNFINISHED, Command, CommandKind, CommandState
from limiter.domain.decision import Reason


def _command(row: Any) -> Command:
    return Command(
        id=row.id,
        model_id=row.model_id,
        model_name=row.model_name,
        kind=CommandKind(row.kind),
        replicas=row.replicas,
        state=CommandState(row.state),
        planned_at=row.planned_at,
        saga_id=row.saga_id,
        finished_at=row.finished_at,
        failures=row.failures,
        spell_id=row.spell_id,
    )


async def plan(connection: AsyncConnection, planned: Collection[Command], reasons: dict[UUID, Reason]) -> set[UUID]:
    """Record intents; returns the ids of those recorded: a model with an unfinished command takes no other."""
    if not planned:
        return set()
    rows = [
        {
            "id": intent.id,
            "model_id": intent.model_id,
            "model_name": intent.model_name,
            "kind": intent.kind,
            "replicas": intent.replicas,
            "state": intent.state,
            "planned_at": intent.planned_at,
            "finished_at": intent.finished_at,
            "failures": intent.failures,
            "spell_id": intent.spell_id,
            "reason": reasons[intent.id],
        }
        for intent in planned
    ]
    statement = insert(command).values(rows)
    only_one = statement.on_conflict_do_nothing(index_elements=["model_id"], index_where=text(UNFINISHED_SQL))
    return set((await connection.execute(only_one.returning(command.c.id))).scalars())


async def submitted(connection: AsyncConnection, id: UUID, saga_id: UUID) -> None:
    """The dispatcher took the command and follows it as this saga."""
    taken = update(command).where(command.c.id == id, command.c.state == CommandState.PLANNED)
    await connection.execute(taken.values(state=CommandState.SUBMITTED, saga_id=saga_id))


async def settle(
    connection: AsyncConnection, id: UUID, state: CommandState, at: datetime, error: str | None = None
) -> bool:
    """End an unfinished command; false if it has ended already."""
    failures = command.c.failures + 1 if state is CommandState.FAILED else 0
    ended = update(command).where(command.c.id == id, command.c.state.in_(UNFINISHED))
    values = ended.values(state=state, finished_at=at, error=error, failures=failures)
    return bool((await connection.execute(values)).rowcount)


async def mark_stuck(connection: AsyncConnection, id: UUID, error: str) -> bool:
    """Mark an unfinished command as stuck; false if it was already."""
    unstuck = command.c.state.in_((CommandState.PLANNED, CommandState.SUBMITTED))
    marked = update(command).where(command.c.id == id, unstuck).values(state=CommandState.STUCK, error=error)
    return bool((await connection.execute(marked)).rowcount)


async def unfinished(connection: AsyncConnection) -> list[Command]:
    """All unfinished commands, the oldest first."""
    query = select(command).where(command.c.state.in_(UNFINISHED)).order_by(command.c.planned_at)
    return [_command(row) for row in await connection.execute(query)]


async def latest(connection: AsyncConnection, since: datetime) -> dict[UUID, Command]:
    """The latest command of each model that had one since then, or still has one unfinished."""
    recent = (command.c.planned_at >= since) | command.c.state.in_(UNFINISHED)
    order = (command.c.model_id, command.c.state.in_(UNFINISHED).desc(), command.c.planned_at.desc())
    query = select(command).ext(distinct_on(command.c.model_id)).where(recent).order_by(*order)
    return {row.model_id: _command(row) for row in await connection.execute(query)}


async def for_spell(connection: AsyncConnection, spell_id: UUID) -> Command | None:
    """The uninstall that an idle spell led to, if any."""
    query = select(command).where(command.c.spell_id == spell_id).order_by(command.c.planned_at.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return _command(row) if row else None


async def in_progress(connection: AsyncConnection) -> dict[str, int]:
    """How many models have an unfinished command, by kind."""
    query = (
        select(command.c.kind, func.count().label("models"))
        .where(command.c.state.in_(UNFINISHED))
        .group_by(command.c.kind)
    )
    return {row.kind: row.models for row in await connection.execute(query)}
