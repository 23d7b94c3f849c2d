"""The tiers, private servers for each process of tests, a fresh database for each test, and the composed service.

A test's folder is its tier: `unit` (no server at all), `integration`, `service`, `chaos`.
"""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import freezegun
import pytest
from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from hypothesis import settings

from dev.servers.services import Services

# The service and its stand-ins are imported by the fixtures that need them: the process that hands out the tests reads
# this file too, before the others start, and would spend a second or two on it.
if TYPE_CHECKING:
    from dev.fake_platform.platform import Platform
    from tests.bench import Bench

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]
TIERS = ("unit", "integration", "service", "chaos", "browser")
SCHEMA = "limiter_test"
START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)

# Each run tries the same examples, so that what passed passes again; a long search (STATE_EXAMPLES) draws new ones.
# A third of the usual hundred, or the tests of `unit` would take longer than half a minute.
settings.register_profile("same", derandomize=True, database=None, deadline=None, max_examples=30)
settings.load_profile("default" if any(name.endswith("_EXAMPLES") for name in os.environ) else "same")

# Stopped time must not stop what measures the tests: `--durations` would be nonsense.
freezegun.configure(extend_ignore_list=["_pytest", "pluggy", "xdist", "execnet"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, and put first what waits longest in real time: others run meanwhile.

    Nobody takes over the test behind one that runs, so a short one stands behind the longest.
    """
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        assert tier in TIERS, f"{item.path} is in none of {', '.join(TIERS)}"
        item.add_marker(tier)
    items.sort(key=lambda item: -sum(mark.args[0] for mark in item.iter_markers("waits")))
    items[1:1] = [items.pop()] if items[1:] else []  # else the only one would be there twice


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported by now stays: the garbage collector need not go through it again, which took 6 % of the time."""
    if any("unit" not in item.keywords for item in session.items):
        import tests.bench  # noqa: F401 - before any test stops time, or pydantic would meet freezegun's datetime
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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


async def migrate(services: Services, schema: str, *arguments: str) -> None:
    """Run alembic in this process, at half of the price, where its command line is not what is tested."""
    from alembic.config import main

    with patch.dict(os.environ, {"DATABASE_URL": services.database_url, "DATABASE_SCHEMA": schema}):
        # In a thread, because our migrations' environment makes an event loop of its own.
        await asyncio.to_thread(main, ["--config", str(ROOT / "alembic.ini"), *arguments])


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    with Services() as running:
        yield running


@pytest.fixture(scope="session")
async def migrated(services: Services) -> str:
    """The name of a schema at head."""
    await migrate(services, SCHEMA, "upgrade", "head")
    return SCHEMA


@pytest.fixture
async def schema(services: Services, migrated: str) -> str:
    """The same schema, emptied for this test."""
    import asyncpg

    from limiter.db.tables import metadata

    tables = [f"{migrated}.{table.name}" for table in metadata.sorted_tables]
    some = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)  # noqa: S608
    # By the driver alone: an engine asks four things of the server before its first statement.
    connection = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
    # Not DELETE, though it is faster: rows would come back in the order of the gaps that it leaves.
    if filled := [row[0] for row in await connection.fetch(some)]:
        await connection.execute(f"TRUNCATE {', '.join(filled)} CASCADE")
    await connection.close()
    return migrated


@pytest.fixture
def time() -> Iterator[FrozenDateTimeFactory]:
    """Time stopped at START; asyncio's own clock goes on, or nothing would."""
    with freeze_time(START, real_asyncio=True) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture
async def platform(request: pytest.FixtureRequest) -> AsyncIterator["Platform"]:
    """The stand-in services; parametrize indirectly with the seconds a saga takes."""
    from dev.fake_platform.platform import Platform

    if "time" in request.fixturenames:
        request.getfixturevalue("time")  # time stops first, so that traffic and sagas begin in the frozen past
    async with Platform(saga_seconds=getattr(request, "param", 0.0), clock=_now) as running:
        yield running


def _now() -> float:
    """The test's time, which freezegun may have stopped."""
    return datetime.now(UTC).timestamp()


MakeBench = Callable[..., Awaitable["Bench"]]


@pytest.fixture
async def make_bench(services: Services, schema: str, platform: "Platform") -> AsyncIterator[MakeBench]:
    """Composes a replica by its own wiring; call it again for another replica."""
    from tests.bench import open_bench

    async with AsyncExitStack() as stack:

        async def make(**settings: object) -> "Bench":
            return await stack.enter_async_context(open_bench(services, schema, platform, **settings))

        yield make
        await asyncio.sleep(0)
