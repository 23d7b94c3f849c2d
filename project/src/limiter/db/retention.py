"""What may be forgotten: ended things older than the retention."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import decisions, readings, tables


async def forget(connection: AsyncConnection, before: datetime) -> None:
    """Drop what ended before; what is unfinished stays, however old."""
    await connection.execute(delete(tables.job_run).where(tables.job_run.c.started_at < before))
    await connection.execute(delete(tables.outbox).where(tables.outbox.c.published_at < before))
    await connection.execute(delete(tables.command).where(tables.command.c.finished_at < before))
    await connection.execute(delete(tables.reminder).where(tables.reminder.c.noted_at < before))
    unpublished = select(tables.outbox.c.spell_id).where(tables.outbox.c.published_at.is_(None))
    ended = tables.idle_spell.c.closed_at < before
    settled = tables.idle_spell.c.id.not_in(unpublished.where(tables.outbox.c.spell_id.is_not(None)))
    await connection.execute(delete(tables.idle_spell).where(ended, settled))
    await decisions.forget(connection, before)
    await readings.forget(connection, before)
