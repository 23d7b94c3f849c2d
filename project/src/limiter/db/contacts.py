"""E-mail addresses, learned from the platform's events, and which reservations its users were reminded of."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, and_, any_, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from limiter.db import bulk
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
    wanted = contact.c.user_id == any_(bindparam(None, list(users), type_=ARRAY(Uuid)))
    rows = await connection.execute(select(contact.c.user_id, contact.c.email).where(wanted))
    return {row.user_id: row.email for row in rows}


async def note_reminders(connection: AsyncConnection, started: Sequence[tuple[str, UUID]]) -> None:
    """Remember that these (reservation, model) starts have been announced."""
    if started:
        new = bulk.insertion(reminder, ("reservation_id", "model_id"), started)
        await connection.execute(new.on_conflict_do_nothing())


async def reminded(connection: AsyncConnection, started: Collection[tuple[str, UUID]]) -> set[tuple[str, UUID]]:
    """Those of the (reservation, model) starts that have been announced."""
    if not started:
        return set()
    ids, models = zip(*started, strict=True)
    arrays = (bindparam(None, list(ids), type_=ARRAY(Text)), bindparam(None, list(models), type_=ARRAY(Uuid)))
    columns = (column("reservation_id", Text), column("model_id", Uuid))
    wanted = func.unnest(*arrays).table_valued(*columns).render_derived(name="wanted")
    same = and_(reminder.c.reservation_id == wanted.c.reservation_id, reminder.c.model_id == wanted.c.model_id)
    rows = await connection.execute(select(reminder.c.reservation_id, reminder.c.model_id).join(wanted, same))
    return {(row.reservation_id, row.model_id) for row in rows}
