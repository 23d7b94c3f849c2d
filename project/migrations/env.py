"""Alembic's environment: one schema named by the environment, one transaction, one advisory lock.

Metadata and migrations carry no schema name; the search path, set for the transaction only, brings it in. That works
through pgbouncer, and the lock lets any number of `alembic upgrade head` run at once: all but one wait, and find
nothing left to do.
"""

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic import context
from sqlalchemy import Connection, inspect, pool, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.schema import CreateSchema

from limiter.config.database import MigrationSettings
from limiter.config.loading import WrongSettings, load_as
from limiter.db.engine import DATABASE_ERRORS, describe
from limiter.db.tables import REVISION, metadata


def migrate(connection: Connection, schema: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote(schema)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(f"migrate {schema}".encode())})
    if not inspect(connection).has_schema(schema):  # IF NOT EXISTS wants the right to create one even where it is there
        connection.execute(CreateSchema(schema))
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": quoted})
    connection.dialect.default_schema_name = schema
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
    )
    found = context.get_context().get_current_revision()
    if found and found > REVISION and context.get_context().opts.get("destination_rev") == "head":
        # Compose runs this before it starts an older version again, whose replicas accept the newer schema.
        newer = f"schema {schema!r} is at revision {found}, newer than {REVISION}"
        print(f"{newer}: there is nothing to do", file=sys.stderr)
        return
    with context.begin_transaction():
        context.run_migrations()


def write(schema: str) -> None:
    """Print the statements (`--sql`), for somebody else to run: what stands above for a connection is part of them."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    quoted = context.get_context().dialect.identifier_preparer.quote(schema)
    with context.begin_transaction():
        if context.get_starting_revision_argument() is None:
            context.execute(CreateSchema(schema, if_not_exists=True))
        context.execute(f"SET LOCAL search_path TO {quoted}")
        context.run_migrations()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection of its own; ends the program with one line if there is none to be had."""
    engine = create_async_engine(
        url,
        poolclass=pool.NullPool,
        connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0},
    )
    try:
        connection = await engine.connect()
    except DATABASE_ERRORS as error:
        sys.exit(f"no connection to Postgres: {describe(error)}")
    try:
        yield connection
    finally:
        await connection.close()
        await engine.dispose()


def settings_or_end() -> MigrationSettings:
    try:
        return load_as(MigrationSettings)
    except WrongSettings as error:
        print("\n".join(f"wrong setting: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)


async def run(settings: MigrationSettings) -> None:
    async with connected(settings.url) as connection, connection.begin():
        await connection.run_sync(migrate, settings.database_schema)


known = settings_or_end()
if context.is_offline_mode():
    write(known.database_schema)
else:
    asyncio.run(run(known))
