"""The pool of connections, and what it does with one whose other end is gone."""

import asyncio
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.chaos.tcp_proxy import TcpProxy
from dev.servers.services import Services
from limiter.db.engine import closed_at_the_end, create_engine, describe


async def pooled_connection(engine: AsyncEngine) -> asyncpg.Connection:
    """The driver's connection that the pool hands out, back in the pool."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        driver: asyncpg.Connection | None = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        return driver


async def test_a_connection_that_the_other_end_closed_while_it_waited_is_replaced(services: Services) -> None:
    engine = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    other = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    try:
        first = await pooled_connection(engine)
        assert await pooled_connection(engine) is first  # the pool keeps it
        closed = asyncio.Event()
        first.add_termination_listener(lambda _: closed.set())
        async with other.connect() as connection, asyncio.timeout(10):
            await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first.get_server_pid()})
            await closed.wait()  # the server forgets it before the driver is told
        assert await pooled_connection(engine) is not first
    finally:
        await engine.dispose()
        await other.dispose()


async def test_transactions_are_read_committed_whatever_the_default_of_the_database_is(services: Services) -> None:
    """With `serializable`, two replicas raised the alarm twice a second."""
    engine = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    try:
        await (await pooled_connection(engine)).execute("SET default_transaction_isolation = serializable")
        async with engine.connect() as connection:
            assert await connection.scalar(text("SHOW transaction_isolation")) == "read committed"
    finally:
        await engine.dispose()


async def test_a_connection_on_which_a_write_was_refused_as_read_only_is_replaced(services: Services) -> None:
    engine = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    try:
        first = await pooled_connection(engine)
        await first.execute("SET default_transaction_read_only = on")
        with pytest.raises(DBAPIError, match="read-only"):
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TABLE never (id int)"))
        assert await pooled_connection(engine) is not first
    finally:
        await engine.dispose()


def end_by_server(driver: Any) -> None:
    """What a server says when it ends a connection; it closes it some milliseconds later."""
    fatal = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    driver._protocol.data_received(b"E" + (4 + len(fatal)).to_bytes(4) + fatal)


async def test_a_statement_right_after_the_server_ended_the_connection_fails_in_words(services: Services) -> None:
    """Those of the driver, "cannot switch to state 15", were the first line of the log in a restart of Postgres."""
    engine = create_engine(services.direct_database_url, "limiter_test", 1, 10)
    try:
        end_by_server(await pooled_connection(engine))
        with pytest.raises(DBAPIError) as caught:
            await pooled_connection(engine)
        assert describe(caught.value) == "ConnectionError: just ended by the server"
    finally:
        await engine.dispose()


async def test_a_pool_that_is_used_up_is_told_without_a_link(services: Services) -> None:
    engine = create_engine(services.direct_database_url, "limiter_test", 1, 0.1)
    try:
        async with engine.connect():
            with pytest.raises(PoolTimeout) as caught:
                await pooled_connection(engine)
        assert describe(caught.value) == "TimeoutError: no connection of the pool became free in time"
    finally:
        await engine.dispose()


async def test_a_silent_server_keeps_no_connection_open_at_the_end(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A replica that was stopped meanwhile waited 10 s for each connection, and logged a traceback of each."""
    monkeypatch.setattr("limiter.db.engine.FAREWELL_SECONDS", 0.05)
    together = asyncio.Barrier(3)

    async def ask(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            await together.wait()

    async with TcpProxy(services.postgres.port) as proxy:
        url = services.direct_database_url.replace(str(services.postgres.port), str(proxy.port))
        async with closed_at_the_end(create_engine(url, "limiter_test", 3, 1)) as engine:
            await asyncio.gather(*(ask(engine) for _ in range(3)))
            proxy.cut()
        assert not [record.message for record in caplog.records if "Exception closing" in record.message]


def test_an_error_without_words_is_told_in_ours_or_by_its_kind() -> None:
    assert describe(TimeoutError()) == "TimeoutError: no answer in time"
    assert describe(ConnectionResetError()) == "ConnectionResetError"
    assert describe(OSError("first line\nsecond")) == "OSError: first line"
