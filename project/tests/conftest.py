"""Private servers for all tests, a fresh database for each, and the composed service on a bench."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from sqlalchemy import text

from dev.platform import Platform
from dev.services import Services
from limiter.db.engine import create_engine
from limiter.db.tables import metadata
from tests.bench import Bench, open_bench

ROOT = Path(__file__).parents[2]
SCHEMA = "limiter_test"
START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


def alembic(services: Services, schema: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run alembic as an operator does, through pgbouncer."""
    environment = os.environ | {"DATABASE_URL": services.database_url, "DATABASE_SCHEMA": schema}
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    with Services() as running:
        yield running


@pytest.fixture(scope="session")
def migrated(services: Services) -> str:
    """The name of a schema at head."""
    done = alembic(services, SCHEMA, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return SCHEMA


@pytest.fixture
async def schema(services: Services, migrated: str) -> str:
    """The same schema, emptied for this test."""
    engine = create_engine(services.database_url, migrated, 1, 10)
    tables = ", ".join(f"{migrated}.{table.name}" for table in metadata.sorted_tables)
    async with engine.begin() as connection:
        await connection.execute(text(f"TRUNCATE {tables}"))
    await engine.dispose()
    return migrated


@pytest.fixture
def time() -> Iterator[FrozenDateTimeFactory]:
    """Time stopped at START; asyncio's own clock goes on, or nothing would."""
    with freeze_time(START, real_asyncio=True) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture
async def platform(request: pytest.FixtureRequest) -> AsyncIterator[Platform]:
    """The stand-in neighbours; parametrize indirectly with the seconds a saga takes."""
    if "time" in request.fixturenames:
        request.getfixturevalue("time")  # time stops first, so that traffic and sagas begin in the frozen past
    async with Platform(saga_seconds=getattr(request, "param", 0.0), clock=_now) as running:
        yield running


def _now() -> float:
    """The test's time, which freezegun may have stopped."""
    return datetime.now(UTC).timestamp()


MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def make_bench(services: Services, schema: str, platform: Platform) -> AsyncIterator[MakeBench]:
    """Composes a replica by its own wiring; call it again for another replica."""
    async with AsyncExitStack() as stack:

        async def make(**settings: object) -> Bench:
            return await stack.enter_async_context(open_bench(services, schema, platform, **settings))

        yield make
        await asyncio.sleep(0)
