"""Rows as the code before revision 0004 wrote them, and plain SQL that writes and reads them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from dev.servers.services import Services

Row = dict[str, Any]
MINUTE = timedelta(minutes=1)


@asynccontextmanager
async def connected(services: Services, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that finds the tables of this schema by their bare names."""
    url = services.direct_database_url.replace("+asyncpg", "")
    connection = await asyncpg.connect(url, server_settings={"search_path": schema})
    try:
        yield connection
    finally:
        await connection.close()


async def write(connection: asyncpg.Connection, rows: dict[str, list[Row]]) -> None:
    for table, of_table in rows.items():
        for row in of_table:
            columns, places = ", ".join(row), ", ".join(f"${number}" for number in range(1, len(row) + 1))
            await connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", *row.values())  # noqa: S608


async def read(connection: asyncpg.Connection, table: str) -> list[Row]:
    """All rows of a table, in no particular order."""
    return [dict(row) for row in await connection.fetch(f"SELECT * FROM {table}")]  # noqa: S608


def sighting(at: datetime, **columns: Any) -> Row:
    """What scaling remembered of a model."""
    row = {"model_id": uuid4(), "model_name": "m", "replicas": 2, "first_seen_at": at}
    return row | {"up_since": None, "down_since": None, "standing": None} | columns


def spell(at: datetime, **columns: Any) -> Row:
    """An idle spell whose user was warned at `at`, 45 minutes after he last used the model."""
    names = {"model_name": "m", "user_name": "ann", "reservation_id": "r", "slot_id": "s"}
    ids = {"id": uuid4(), "model_id": uuid4(), "user_id": uuid4()}
    warned = {"state": "warned", "reason": "unused", "idle_since": at - 45 * MINUTE, "opened_at": at}
    deadline = {"not_before": at + 15 * MINUTE, "delivered_at": at, "closed_at": None, "dry_run": False}
    slot = {"slot_start": at - 45 * MINUTE, "slot_end": at + 75 * MINUTE}
    return ids | names | warned | deadline | slot | columns


def cancellation(at: datetime, spell_id: UUID, **columns: Any) -> Row:
    """A slot that is to be cancelled for a spell."""
    slot = {"slot_id": "s2", "reservation_id": "r", "slot_start": at, "slot_end": at + 60 * MINUTE}
    return {"spell_id": spell_id, "whole": False, "state": "planned", "error": None} | slot | columns


def command(at: datetime, **columns: Any) -> Row:
    """A command that the dispatcher has taken, and whose end is not known."""
    row = {"id": uuid4(), "model_id": uuid4(), "model_name": "m", "kind": "scale_up", "replicas": 3}
    row |= {"state": "submitted", "reason": "overloaded", "planned_at": at, "finished_at": None, "saga_id": uuid4()}
    return row | {"failures": 0, "spell_id": None, "error": None} | columns


def job_run(at: datetime, **columns: Any) -> Row:
    """A run that had not ended when its replica did."""
    row = {"job": "idle_enforce", "epoch": 7, "slot": at, "cause": "schedule", "holder": uuid4(), "state": "running"}
    return row | {"started_at": at, "ended_at": None, "error": None} | columns


def decision(at: datetime, **columns: Any) -> Row:
    """What stands for a booking whose warning expired: 1.0.0 knew that besides withdrawing."""
    about = {"model_id": uuid4(), "model_name": "m", "user_id": uuid4(), "decided_at": at}
    return about | {"decision": "expire", "reason": "booking_gone", "numbers": "{}"} | columns
