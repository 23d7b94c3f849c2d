"""The commands sent to the dispatcher: intent first, then that it is being sent, then the answer, then the end.

The database itself allows one unfinished command per model, by a partial unique index. `settlement` ends commands.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, and_, any_, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import bulk, scaling_states
from limiter.db.tables import UNFINISHED_SQL, command
from limiter.domain.command import UNFINISHED, Command, CommandKind, CommandState
from limiter.domain.decision import Reason
from limiter.domain.wall_clock import SET_BACK

NAMED_AT_MOST = 1000  # models in a statement: 100,000 stop the loop for 100 ms, to find what is seldom there
LASTING = timedelta(days=1)  # how far back is looked where they are not named: history must cost nothing
PLANNED: tuple[str, ...] = ("id", "model_id", "model_name", "kind", "replicas", "state", "planned_at")
PLANNED += ("finished_at", "failures", "spell_id", "reason")


def command_of(row: Any) -> Command:
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
        sent_at=row.sent_at,
    )


async def plan(connection: AsyncConnection, planned: Collection[Command], reasons: dict[UUID, Reason]) -> set[UUID]:
    """Record intents; returns the ids of those recorded: a model with an unfinished command takes no other."""
    if not planned:
        return set()
    rows = [
        [reasons[intent.id] if name == "reason" else getattr(intent, name) for name in PLANNED] for intent in planned
    ]
    statement = bulk.insertion(command, PLANNED, rows)
    only_one = statement.on_conflict_do_nothing(index_elements=["model_id"], index_where=text(UNFINISHED_SQL))
    return set((await connection.execute(only_one.returning(command.c.id))).scalars())


async def mark_sent(connection: AsyncConnection, id: UUID, at: datetime) -> bool:
    """The command is about to be sent; false if somebody else has sent it, or ended it: then it must not be sent."""
    unsent = and_(command.c.id == id, command.c.state == CommandState.PLANNED, command.c.sent_at.is_(None))
    marked = update(command).where(unsent).values(sent_at=at).returning(command.c.id)
    return (await connection.execute(marked)).first() is not None


async def submitted(connection: AsyncConnection, id: UUID, saga_id: UUID) -> bool:
    """The dispatcher took the command and follows it as this saga; false if it was ended before the answer came."""
    open_ = and_(command.c.id == id, command.c.state.in_(UNFINISHED), command.c.saga_id.is_(None))
    taken = update(command).where(open_).values(state=CommandState.SUBMITTED, saga_id=saga_id, error=None)
    return bool((await connection.execute(taken)).rowcount)


async def take_up(connection: AsyncConnection, id: UUID, saga_id: UUID) -> bool:
    """Remember the saga of a command that was ended before its answer came, and follow it if it was ended as failed.

    False if it stays ended: it was completed, or its model has another unfinished command by now.
    """
    known = update(command).where(command.c.id == id, command.c.saga_id.is_(None)).values(saga_id=saga_id)
    await connection.execute(known)
    failed = and_(command.c.id == id, command.c.state == CommandState.FAILED)
    taken = update(command).where(failed).values(state=CommandState.SUBMITTED, finished_at=None, error=None)
    taken = taken.values(failures=func.greatest(command.c.failures - 1, 0))
    try:
        async with connection.begin_nested():
            return bool((await connection.execute(taken)).rowcount)
    except IntegrityError:  # the model has another unfinished one
        return False


def unfinished_of(model_name: str) -> ColumnElement[bool]:
    """A condition: unfinished, and for a model that has this name now, or had it when the command was planned."""
    named = or_(command.c.model_name == model_name, command.c.model_id.in_(scaling_states.named(model_name)))
    return and_(command.c.state.in_(UNFINISHED), named)


async def unfinished_for(connection: AsyncConnection, model_name: str, limit: int) -> list[Command]:
    """The unfinished commands for a model by its name, now or then, the oldest first."""
    query = select(command).where(unfinished_of(model_name)).order_by(command.c.planned_at).limit(limit)
    return [command_of(row) for row in await connection.execute(query)]


async def unfinished(connection: AsyncConnection) -> list[Command]:
    """All unfinished commands, the oldest first."""
    query = select(command).where(command.c.state.in_(UNFINISHED)).order_by(command.c.planned_at)
    return [command_of(row) for row in await connection.execute(query)]


async def latest(connection: AsyncConnection, since: datetime, now: datetime) -> dict[UUID, Command]:
    """The latest command of each model that had one since then, or still has one unfinished.

    One planned at a time to come is from before the clock was set back: any other is later.
    """
    recent = (command.c.planned_at >= since) | command.c.state.in_(UNFINISHED)
    before_all = command.c.planned_at > now + SET_BACK
    order = (command.c.model_id, command.c.state.in_(UNFINISHED).desc(), before_all, command.c.planned_at.desc())
    query = select(command).ext(distinct_on(command.c.model_id)).where(recent).order_by(*order)
    return {row.model_id: command_of(row) for row in await connection.execute(query)}


async def ended(connection: AsyncConnection, model_ids: Collection[UUID], since: datetime) -> dict[UUID, Command]:
    """The latest command of each of these models that was planned before then, however long, and ended since."""
    few, named = len(model_ids) <= NAMED_AT_MOST, bindparam(None, list(model_ids), type_=ARRAY(Uuid))
    wanted = command.c.model_id == any_(named) if few else command.c.planned_at >= since - LASTING
    lasted = and_(wanted, command.c.planned_at < since, command.c.finished_at >= since)
    query = select(command).ext(distinct_on(command.c.model_id)).where(lasted)
    rows = await connection.execute(query.order_by(command.c.model_id, command.c.planned_at.desc()))
    return {row.model_id: command_of(row) for row in rows if row.model_id in model_ids}


async def for_spells(connection: AsyncConnection, spell_ids: Collection[UUID]) -> dict[UUID, Command]:
    """The latest uninstall that each of these idle spells led to, if any."""
    wanted = command.c.spell_id == any_(bindparam(None, list(spell_ids), type_=ARRAY(Uuid)))
    order = (command.c.spell_id, command.c.planned_at.desc())
    rows = await connection.execute(select(command).ext(distinct_on(command.c.spell_id)).where(wanted).order_by(*order))
    return {row.spell_id: command_of(row) for row in rows}


async def in_progress(connection: AsyncConnection) -> dict[str, int]:
    """How many models have an unfinished command, by kind."""
    models = func.count().label("models")
    query = select(command.c.kind, models).where(command.c.state.in_(UNFINISHED)).group_by(command.c.kind)
    return {row.kind: row.models for row in await connection.execute(query)}
