"""Engines that are safe behind pgbouncer in transaction pooling, and the check that the schema is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakSet

import asyncpg
import msgspec
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from limiter.db.tables import REVISION, metadata

# What is raised while the database is away or overloaded; MISTAKES are the kinds of DBAPIError that are our own.
DATABASE_ERRORS = (DBAPIError, PoolTimeout, OSError, TimeoutError)
MISTAKES = (IntegrityError, ProgrammingError, DataError)

FAREWELL_SECONDS = 1.0  # for all connections; one by one they would be waited for, each as long as a statement
NO_ROOM = "53100"  # Postgres' code for a write that its disk has no room for
READS_ONLY = "25006"  # its code for a write in a transaction that may only read
# The driver's words for a statement that comes between the server's last word on a connection and its end.
JUST_ENDED = "another operation (2) is in progress"
READ_ONLY = "read-only: a standby, or default_transaction_read_only is on"


def reason_of(error: BaseException) -> str:
    """The reason to count for an error of the database itself: no room on its disk, or no answer."""
    return (
        "database_full"
        if getattr(getattr(error, "orig", None), "sqlstate", None) == NO_ROOM
        else "database_unavailable"
    )


def describe(error: BaseException) -> str:
    """What went wrong, in one line without the statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if JUST_ENDED in str(cause):
        return "ConnectionError: just ended by the server"
    if isinstance(cause, PoolTimeout):
        return "TimeoutError: no connection of the pool became free in time"
    silent = ["no answer in time"] if isinstance(cause, TimeoutError) else []
    first = str(cause).strip().splitlines() or silent
    return ": ".join([type(cause).__name__, *first[:1]])


class SchemaMissing(Exception):
    """The database lacks the schema this version needs; only `alembic upgrade head` brings it."""


def create_engine(url: str, schema: str, pool_size: int, timeout: float) -> AsyncEngine:
    """An engine whose tables live in `schema`; connecting and each statement take at most `timeout` seconds."""
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        pool_recycle=1800,
        hide_parameters=True,
        isolation_level="READ COMMITTED",  # whatever the role's is: of stricter ones a claim and a fence would fail
        json_serializer=_json,
        connect_args={
            # A pooled server connection is another one in each transaction: a cached statement would not be there.
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "timeout": timeout,
            "command_timeout": timeout,
            "server_settings": {"application_name": "rps-limiter"},
        },
    )
    event.listen(engine.sync_engine, "checkout", _check_alive)
    event.listen(engine.sync_engine, "handle_error", _let_go_of_a_standby)
    return engine.execution_options(schema_translate_map={None: schema})


def _json(value: object) -> str:
    """JSON, in an eighth of the time of json.dumps: of a fleet met for the first time each model has a record."""
    return msgspec.json.encode(value).decode()


def _check_alive(connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
    """Have the pool replace a connection whose other end is gone: pool_pre_ping without its four round trips."""
    driver: asyncpg.Connection = connection.driver_connection
    if driver.is_closed():
        raise DisconnectionError("closed by the other end while it waited in the pool")


def _let_go_of_a_standby(context: ExceptionContext) -> None:
    """Connect anew after a write that was refused as read-only: by now the same name may lead to the new primary.

    A connection to the old one that is a standby since a failover would be kept for as long as it lasts.
    """
    if getattr(context.original_exception, "sqlstate", None) == READS_ONLY:
        context.is_disconnect = True


@asynccontextmanager
async def closed_at_the_end(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """The engine for the length of the block, before its first connection; a silent server does not keep any open."""
    drivers = WeakSet[asyncpg.Connection]()
    event.listen(engine.sync_engine, "connect", lambda connection, _: drivers.add(connection.driver_connection))
    yield engine
    closing = asyncio.ensure_future(engine.dispose())
    await asyncio.wait({closing}, timeout=FAREWELL_SECONDS)
    if not closing.done():
        for driver in drivers:
            driver.terminate()
    await closing


async def check_schema(engine: AsyncEngine, schema: str) -> None:
    """Raise SchemaMissing unless the schema is at this version's revision or newer; connection errors pass through."""
    quoted = engine.dialect.identifier_preparer.quote(schema)
    async with engine.connect() as connection:
        try:
            query = f"SELECT version_num FROM {quoted}.alembic_version"  # noqa: S608 - quoted by the dialect
            found = await connection.scalar(text(query))
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in ("42P01", "3F000"):
                raise
            found = None
    if found is None:
        raise SchemaMissing(f"schema {schema!r} has no tables of ours: run `alembic upgrade head` first")
    if str(found) < REVISION:
        raise SchemaMissing(
            f"schema {schema!r} is at revision {found}, {REVISION} is needed: run `alembic upgrade head`"
        )


async def unusable_tables(engine: AsyncEngine, schema: str) -> tuple[str, list[str]]:
    """Our role, and the tables of ours that it may not both read and write."""
    query = """
        SELECT relname FROM pg_class
        WHERE relnamespace = to_regnamespace(quote_ident(:schema)) AND relname = ANY (:names)
            AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                     AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
        ORDER BY relname"""
    async with engine.connect() as connection:
        found = await connection.scalars(text(query), {"schema": schema, "names": list(metadata.tables)})
        return str(await connection.scalar(text("SELECT quote_ident(current_user)"))), list(found)
