"""Alembic's environment: one schema named by the environment, one transaction, one advisory lock.

Metadata and migrations carry no schema name; the search path, set for the transaction only, brings it in. That works
through pgbouncer, and the lock lets any number of `alembic upgrade head` run at once: all but one wait, and find
nothing left to do.
"""

import asyncio
import zlib

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from limiter.config.database import MigrationSettings
from limiter.db.tables import metadata


def migrate(connection: Connection, schema: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote(schema)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(f"migrate {schema}".encode())})
    connection.execute(CreateSchema(schema, if_not_exists=True))
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": quoted})
    connection.dialect.default_schema_name = schema
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run() -> None:
    settings = MigrationSettings()
    engine = create_async_engine(
        settings.url,
        poolclass=pool.NullPool,
        connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0},
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate, settings.database_schema)
    finally:
        await engine.dispose()


asyncio.run(run())
