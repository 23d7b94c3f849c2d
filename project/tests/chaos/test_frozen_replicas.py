"""A replica that lost its lock while it could not know: it writes nothing and commands nothing when it comes back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.fake_platform.faulty_wire import ArmedFault
from dev.fake_platform.platform import Fault, Platform
from dev.servers.services import Services
from limiter.db import tables
from limiter.db.engine import create_engine
from limiter.domain.job import Job
from tests.bench import environment
from tests.replicas import Replica, replicas

# rps_check runs once, at the start, so that whatever is written after that was written by the one that came back.
SELDOM = {f"{job}_INTERVAL_SECONDS".upper(): 86_400 for job in Job}
# A model with one replica is to have two: every rps_check that may act commands something.
GREEDY = {"SCALE_MIN_REPLICAS": 2, "SCALE_UP_WINDOW_SECONDS": 86_400, "SCALE_DOWN_WINDOW_SECONDS": 86_400}
QUICK_TICKS = {"TICK_LONGEST_SECONDS": 0.3, "HTTP_TIMEOUT_SECONDS": 60, "DATABASE_TIMEOUT_SECONDS": 1}
SOON_FREED = {"LOCK_HEARTBEAT_SECONDS": 0.5, "LOCK_TRUST_SECONDS": 1.5, "LOCK_IDLE_TIMEOUT_SECONDS": 2}
NEVER_FREED = {"LOCK_HEARTBEAT_SECONDS": 50, "LOCK_TRUST_SECONDS": 100, "LOCK_IDLE_TIMEOUT_SECONDS": 200}


@pytest.fixture
async def engine(services: Services, schema: str) -> AsyncIterator[AsyncEngine]:
    """Reads the database; only rps_check is to run in it, so the other jobs are paused."""
    engine = create_engine(services.direct_database_url, schema, 2, 10)
    async with engine.begin() as connection:
        others = [{"name": job, "next_due_at": func.now(), "paused": True} for job in Job if job is not Job.RPS_CHECK]
        await connection.execute(insert(tables.job).values(others))
    yield engine
    await engine.dispose()


async def everything(engine: AsyncEngine) -> dict[str, list[Any]]:
    """All rows of all tables, with the transaction that wrote each."""
    found = {}
    async with engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            rows = await connection.execute(select(text("xmin::text"), table).select_from(table))
            found[table.name] = sorted(map(str, rows))
    return found


async def until_run(engine: AsyncEngine, *states: str) -> None:
    """Wait until the runs of rps_check, in their order, are in these states."""
    run = tables.job_run
    query = select(run.c.state).where(run.c.job == Job.RPS_CHECK).order_by(run.c.epoch)
    async with asyncio.timeout(20):
        while True:
            async with engine.connect() as connection:
                if tuple((await connection.execute(query)).scalars()) == states:
                    return
            await asyncio.sleep(0.05)


async def until_it_says(replica: Replica, event: str) -> dict[str, object]:
    async with asyncio.timeout(20):
        while True:
            for line in replica.lines():
                if line.get("event") == event:
                    return line
            await asyncio.sleep(0.05)


async def freeze_in_a_run(replica: Replica, hanging: ArmedFault, engine: AsyncEngine) -> None:
    """Freeze the replica while its rps_check waits for the registry."""
    await until_run(engine, "running")
    async with asyncio.timeout(20):
        while True:
            if hanging.left == 0:
                break
            await asyncio.sleep(0.05)
    replica.process.send_signal(signal.SIGSTOP)


async def thaw(replica: Replica, platform: Platform) -> None:
    """Let it go on, with an answer that only it can have read, in which a model needs a command."""
    platform.add_model("late")
    platform.clear_faults()
    replica.process.send_signal(signal.SIGCONT)


async def test_a_frozen_replica_that_thaws_writes_nothing_and_commands_nothing(
    services: Services, schema: str, platform: Platform, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Frozen for longer than the idle timeout: Postgres frees its lock, and another replica runs the job."""
    platform.add_model("early")
    hanging = platform.fault("registry", Fault.hang(), times=1)
    variables = environment(services, schema, platform, **SELDOM, **GREEDY, **QUICK_TICKS, **SOON_FREED)
    (tmp_path / "other").mkdir()
    async with replicas(1, variables, tmp_path) as (frozen,):
        await freeze_in_a_run(frozen, hanging, engine)
        async with replicas(1, variables, tmp_path / "other") as (other,):
            await until_run(engine, "lost", "completed")
            before = await everything(engine)
            await thaw(frozen, platform)
            ended = await until_it_says(frozen, "run_ended")
            await frozen.ready()
            assert await everything(engine) == before
            assert [command.model_name for command in platform.commands] == ["early"]
            assert [await replica.end() for replica in (frozen, other)] == [0, 0]
    assert ended["state"] == "lost"


async def test_the_epoch_alone_stops_a_replica_to_which_its_lock_still_seems_kept(
    services: Services, schema: str, platform: Platform, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Nothing local shows it: the connection stands, the heartbeat is in time; only the fence is left."""
    hanging = platform.fault("registry", Fault.hang(), times=1)
    variables = environment(services, schema, platform, **SELDOM, **GREEDY, **QUICK_TICKS, **NEVER_FREED)
    async with replicas(1, variables, tmp_path) as (frozen,):
        await freeze_in_a_run(frozen, hanging, engine)
        async with engine.begin() as connection:
            taken_over = update(tables.job).where(tables.job.c.name == Job.RPS_CHECK)
            await connection.execute(taken_over.values(epoch=tables.job.c.epoch + 1, running_epoch=None))
        before = await everything(engine)
        await thaw(frozen, platform)
        lost = await until_it_says(frozen, "lock_lost")
        await frozen.ready()
        after = await everything(engine)
        assert await frozen.end() == 0
    assert "another replica took the job" in str(lost["message"])
    assert after["target"] == before["target"] == []
    assert (after["scaling_state"], after["command"]) == ([], [])
    assert platform.commands == []
    assert [row for row in after["job_run"] if "rps_check" in row] == [
        row for row in before["job_run"] if "rps_check" in row
    ]
