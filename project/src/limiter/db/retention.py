"""What may be forgotten: ended things older than their retention; what is unfinished, or stands, stays however old.

Of surges there is at most one a kind, and the state of scaling of a model goes with the model.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, Table, and_, any_, delete, exists, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import decisions, tables
from limiter.db.tables import OPEN_SQL


def outdated(history: datetime, contacts: datetime) -> dict[Table, ColumnElement[bool]]:
    """For each table which rows may go: ended before `history`, addresses not announced since `contacts`."""
    run, outbox, command, spell = tables.job_run.c, tables.outbox.c, tables.command.c, tables.idle_spell.c
    return {
        tables.job_run: and_(run.started_at < history, run.state != "running"),
        # The closing of a warning goes where the warning went, and an uninstall is followed by its spell.
        tables.outbox: and_(outbox.published_at < history, ~_open_spell(outbox.spell_id)),
        # It was planned before it ended, and when it was planned is indexed.
        tables.command: and_(
            command.finished_at < history, command.planned_at < history, ~_open_spell(command.spell_id)
        ),
        tables.idle_spell: and_(spell.closed_at < history, ~_unpublished(spell.id)),
        tables.decision: decisions.outdated(history, contacts),
        tables.gap: tables.gap.c.until < history,
        tables.usage: tables.usage.c.last_used_at < history,
        tables.keep: tables.keep.c.until < history,
        # A slot may last longer than the history, and its user is reminded once.
        tables.reminder: tables.reminder.c.noted_at < contacts,
        tables.saga_time: tables.saga_time.c.noted_at < contacts,
        tables.contact: tables.contact.c.learned_at < contacts,
    }


def _open_spell(id: ColumnElement[object]) -> ColumnElement[bool]:
    return exists().where(tables.idle_spell.c.id == id, text(OPEN_SQL)).correlate_except(tables.idle_spell)


def _unpublished(spell_id: ColumnElement[object]) -> ColumnElement[bool]:
    waiting = exists().where(tables.outbox.c.spell_id == spell_id, tables.outbox.c.published_at.is_(None))
    return waiting.correlate_except(tables.outbox)


async def drop(connection: AsyncConnection, table: Table, condition: ColumnElement[bool], limit: int) -> int:
    """Drop up to `limit` rows; returns how many. A row that somebody writes now stays for the next time."""
    row: ColumnElement[object] = literal_column("ctid")
    some = select(row).select_from(table).where(condition).limit(limit).with_for_update(skip_locked=True)
    # As an array it is evaluated once: joined, Postgres may evaluate it again and again, beyond the limit.
    found = func.array(some.correlate(None).scalar_subquery())
    return (await connection.execute(delete(table).where(row == any_(found)))).rowcount
