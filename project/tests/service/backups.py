"""A database's rows, backed up and put back while the platform goes on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.db.tables import metadata

Backup = Mapping[Table, Sequence[Mapping[str, Any]]]


async def back_up(engine: AsyncEngine) -> Backup:
    """Every row of every table, in the order in which they can be put back."""
    async with engine.connect() as connection:
        return {
            table: [dict(row) for row in (await connection.execute(select(table))).mappings()]
            for table in metadata.sorted_tables
        }


async def put_back(engine: AsyncEngine, backup: Backup) -> None:
    """Let the tables have these rows, and no others."""
    async with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(delete(table))
        for table, rows in backup.items():
            if rows:
                await connection.execute(insert(table), rows)
