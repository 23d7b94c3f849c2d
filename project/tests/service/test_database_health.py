"""Readiness while Postgres answers, and yet no job can run: it only reads, or has no tables of ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from dev.servers.services import Services
from limiter.api.reads import Reads
from limiter.db.engine import READ_ONLY, create_engine
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import MakeBench


async def administer(services: Services, *statements: str) -> None:
    url = services.direct_database_url.replace("+asyncpg", "")
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def becomes(bench: Bench, state: str) -> None:
    """Wait until readiness says so: Postgres takes new settings over in its own time."""
    async with asyncio.timeout(10):
        while True:
            if (await bench.replica.health.dependencies())["database"] == state:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def between(services: Services, begin: list[str], end: list[str]) -> AsyncIterator[None]:
    await administer(services, *begin)
    try:
        yield
    finally:
        await administer(services, *end)


FAULTS = {
    "read-only": (
        ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
        ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
        READ_ONLY,
    ),
    "no tables": (
        ["ALTER SCHEMA limiter_test RENAME TO elsewhere"],
        ["ALTER SCHEMA elsewhere RENAME TO limiter_test"],
        'unusable: ProgrammingError: relation "limiter_test.job" does not exist',
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_database_in_which_no_job_can_run_is_not_ready_and_is_again_when_one_can(
    services: Services, make_bench: MakeBench, fault: str
) -> None:
    begin, end, why = FAULTS[fault]
    bench = await make_bench()
    await becomes(bench, "ok")
    async with between(services, begin, end):
        await becomes(bench, why)
        await bench.scheduler.tick(Job.RPS_CHECK)
        assert bench.criticals() == {"database_unavailable": 1}
    await becomes(bench, "ok")
    await bench.run(Job.RPS_CHECK)


async def test_a_standby_is_let_go_of_once_its_name_leads_to_the_new_primary(
    services: Services, make_bench: MakeBench
) -> None:
    bench = await make_bench(DATABASE_URL=services.direct_database_url)
    # Of a role it holds for new connections alone, as a failover does: the others stay what they were.
    role = "ALTER ROLE postgres"
    reads_only = [f"{role} SET default_transaction_read_only = on"], [f"{role} RESET default_transaction_read_only"]
    async with between(services, *reads_only):
        for pool in (bench.engine, bench.replica.lock.guards):
            await pool.dispose()
        await becomes(bench, READ_ONLY)
        with pytest.raises(ConnectionError, match=READ_ONLY):
            await bench.attempt(Job.RPS_CHECK)
    await becomes(bench, "ok")
    await bench.run(Job.RPS_CHECK)


async def test_why_the_database_lets_nobody_in_is_said(services: Services, make_bench: MakeBench) -> None:
    bench = await make_bench()
    url = services.direct_database_url.replace("postgres@", "stranger@")
    engine = create_engine(url, "limiter_test", 1, 10)
    state = (await replace(bench.replica.health, engine=engine, reads=Reads()).dependencies())["database"]
    await engine.dispose()
    assert state == 'unavailable: Error: role "stranger" does not exist'
