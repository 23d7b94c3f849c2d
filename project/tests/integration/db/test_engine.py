"""The pool of connections, and what it does with one whose other end is gone."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.servers.services import Services
from limiter.db.engine import create_engine

BACKEND = text("SELECT pg_backend_pid()")


async def backend(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(BACKEND) or 0)


async def test_a_connection_that_the_other_end_closed_while_it_waited_is_replaced(services: Services) -> None:
    pooled = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    other = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    first = await backend(pooled)
    assert await backend(pooled) == first  # the pool keeps it
    gone = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
    async with other.connect() as connection, asyncio.timeout(10):
        await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first})
        while await connection.scalar(gone, {"pid": first}):
            await connection.rollback()
            await asyncio.sleep(0.01)
    assert await backend(pooled) != first
    await pooled.dispose()
    await other.dispose()
