"""Events, committed together with the change of state they announce, published afterwards at least once.

A user hears of a model in order: of all that waits about one user and model only the earliest event may go out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Interval,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import outbox
from limiter.db.waiting_events import HELD_BACK, behind

WARNING: Final = "warning"
NOT_SENT = "dry run: not sent"


@dataclass(frozen=True, slots=True)
class Event:
    """One event for the notifier; the message_id stays the same however often it is sent."""

    message_id: UUID
    stage: str
    routing_key: str
    body: dict[str, Any]
    spell_id: UUID | None = None
    attempts: int = 0


def _takable() -> ColumnElement[bool]:
    """Unpublished, its time has come, and nothing that its user must hear before it waits."""
    due = outbox.c.next_attempt_at <= func.now()
    return and_(outbox.c.published_at.is_(None), due, outbox.c.sequence.not_in(behind()))


def has_work() -> ColumnElement[bool]:
    """A condition: some event may go out now."""
    return exists().where(_takable())


async def put(connection: AsyncConnection, event: Event, *, dry_run: bool) -> None:
    """Record an event, to be published; in a dry run only recorded."""
    values: dict[str, Any] = {
        "message_id": event.message_id,
        "spell_id": event.spell_id,
        "stage": event.stage,
        "routing_key": event.routing_key,
        "body": event.body,
    }
    if dry_run:
        values |= {"published_at": func.now(), "error": NOT_SENT}
    await connection.execute(insert(outbox).values(values).on_conflict_do_nothing(index_elements=["message_id"]))


async def retract_warning(connection: AsyncConnection, spell_id: UUID) -> bool:
    """Take back a warning that was never handed to the broker; false if it was, or may have been."""
    untouched = and_(outbox.c.spell_id == spell_id, outbox.c.stage == WARNING, outbox.c.attempts == 0)
    return bool((await connection.execute(delete(outbox).where(untouched, outbox.c.published_at.is_(None)))).rowcount)


async def warned_address(connection: AsyncConnection, spell_id: UUID) -> str | None:
    """The address that the spell's warning went to, or will go to."""
    warning = and_(outbox.c.spell_id == spell_id, outbox.c.stage == WARNING)
    return await connection.scalar(select(outbox.c.body["user"]["email"].astext).where(warning))


async def named_slots(connection: AsyncConnection, spell_id: UUID) -> list[dict[str, Any]] | None:
    """The slots at risk, as the spell's warning says them; None if there is no warning."""
    warning = and_(outbox.c.spell_id == spell_id, outbox.c.stage == WARNING)
    found = await connection.scalar(select(outbox.c.body["reservation"]["slots_at_risk"]).where(warning))
    return None if found is None else list(found)


async def take(connection: AsyncConnection, limit: int, keys: Mapping[str, str]) -> list[Event]:
    """Up to `limit` events to send now, in order; each counts as attempted from here on.

    They go out by the routing `keys` of their stages as these are now: one that no queue was bound to may be corrected.
    """
    due = select(outbox.c.sequence).where(_takable()).order_by(outbox.c.sequence).limit(limit)
    key = case(keys, value=outbox.c.stage, else_=outbox.c.routing_key)
    attempt = update(outbox).where(outbox.c.sequence.in_(due)).values(attempts=outbox.c.attempts + 1, routing_key=key)
    rows = (await connection.execute(attempt.returning(outbox))).all()
    return [
        Event(row.message_id, row.stage, row.routing_key, row.body, row.spell_id, row.attempts)
        for row in sorted(rows, key=lambda row: row.sequence)
    ]


async def rewrite(connection: AsyncConnection, events: Sequence[Event]) -> None:
    """Change what these unpublished events say."""
    if events:
        changed = (
            update(outbox).where(outbox.c.message_id == bindparam("id")).values(body=bindparam("new_body", type_=JSONB))
        )
        await connection.execute(changed, [{"id": event.message_id, "new_body": event.body} for event in events])


async def put_back(connection: AsyncConnection, events: Sequence[tuple[Event, str]], wait: timedelta) -> None:
    """Let these events, just taken, wait: they were not handed to the broker, so it counts as no attempt."""
    if events:
        back = update(outbox).where(outbox.c.message_id == bindparam("id"))
        back = back.values(attempts=outbox.c.attempts - 1, next_attempt_at=func.now() + wait, error=bindparam("why"))
        await connection.execute(back, [{"id": event.message_id, "why": f"{HELD_BACK}{why}"} for event, why in events])


async def drop(connection: AsyncConnection, events: Collection[Event]) -> None:
    """Of these events it is only recorded, as of one that is put in a dry run, that they were not sent."""
    if events:
        gone = update(outbox).where(outbox.c.message_id.in_([event.message_id for event in events]))
        await connection.execute(gone.values(published_at=func.now(), error=NOT_SENT))


async def published(connection: AsyncConnection, events: Collection[Event], at: datetime) -> None:
    ids = [event.message_id for event in events]
    await connection.execute(update(outbox).where(outbox.c.message_id.in_(ids)).values(published_at=at, error=None))


async def postponed(connection: AsyncConnection, failures: Sequence[tuple[Event, timedelta, str]]) -> None:
    """Let these events wait before their next attempt."""
    later = update(outbox).where(outbox.c.message_id == bindparam("id"))
    later = later.values(next_attempt_at=func.now() + bindparam("wait", type_=Interval), error=bindparam("why"))
    await connection.execute(
        later, [{"id": event.message_id, "wait": wait, "why": why} for event, wait, why in failures]
    )
