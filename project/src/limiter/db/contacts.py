"""E-mail addresses, learned from the platform's events, and which reservations its users were reminded of."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db.tables import contact, reminder


async def learn(engine: AsyncEngine, user_id: UUID, name: str, email: str, started: Sequence[tuple[str, UUID]]) -> None:
    """Remember a user's address, and that these (reservation, model) starts have been announced."""
    known = insert(contact).values(user_id=user_id, user_name=name, email=email)
    fresh = {"user_name": known.excluded.user_name, "email": known.excluded.email, "learned_at": func.now()}
    async with engine.begin() as connection:
        await connection.execute(known.on_conflict_do_update(index_elements=["user_id"], set_=fresh))
        await note_reminders(connection, started)


async def emails(connection: AsyncConnection, users: Collection[UUID]) -> dict[UUID, str]:
    """The addresses known for these users."""
    rows = await connection.execute(select(contact.c.user_id, contact.c.email).where(contact.c.user_id.in_(users)))
    return {row.user_id: row.email for row in rows}


async def note_reminders(connection: AsyncConnection, started: Sequence[tuple[str, UUID]]) -> None:
    """Remember that these (reservation, model) starts have been announced."""
    if started:
        rows = [{"reservation_id": reservation, "model_id": model} for reservation, model in started]
        await connection.execute(insert(reminder).values(rows).on_conflict_do_nothing())


async def reminded(connection: AsyncConnection, started: Collection[tuple[str, UUID]]) -> set[tuple[str, UUID]]:
    """Those of the (reservation, model) starts that have been announced."""
    pair = tuple_(reminder.c.reservation_id, reminder.c.model_id)
    rows = await connection.execute(select(reminder.c.reservation_id, reminder.c.model_id).where(pair.in_(started)))
    return {(row.reservation_id, row.model_id) for row in rows}
