"""Parts that are full: said in words, nothing lost, and all goes on by itself once there is room."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from dev.fake_platform.platform import Platform
from dev.servers.replica import Replica, migrate, servers
from dev.servers.services import Services
from limiter.api.checks import Wrong
from limiter.clients.rabbitmq import BLOCKED
from limiter.db import tables
from limiter.db.engine import create_engine
from limiter.domain.job import Job
from limiter.wiring import compose_doctor
from tests.bench import environment
from tests.conftest import MakeBench
from tests.replicas import FAST
from tests.service.test_ctl import ctl, reaching

OFTEN = FAST | {"EVENT_DISPATCH_INTERVAL_SECONDS": 0.2, "SAGA_POLL_INTERVAL_SECONDS": 0.2}
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "absolute", "512MB")),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB")),
}


@pytest.fixture
async def small_disk() -> AsyncIterator[Services]:
    """Servers of which Postgres has a small disk of its own."""
    async with servers(disk_megabytes=256) as services:
        if not services.postgres.has_own_disk:
            pytest.skip("no right to mount a small disk")
        yield services


def says(name: str, words: str) -> Callable[[dict[str, Any]], bool]:
    """The condition that readiness says these words of one dependency."""
    return lambda page: words in page["dependencies"][name]


async def until_more(services: Services, schema: str, runs_before: int) -> None:
    """Wait until more runs than that have completed."""
    async with asyncio.timeout(30):
        while True:
            if await runs(services, schema) > runs_before:
                return
            await asyncio.sleep(0.1)


async def runs(services: Services, schema: str) -> int:
    engine = create_engine(services.direct_database_url, schema, 1, 10)
    completed = select(func.count()).select_from(tables.job_run).where(tables.job_run.c.state == "completed")
    async with engine.connect() as connection:
        found = await connection.scalar(completed)
    await engine.dispose()
    return found or 0


@pytest.mark.waits(40)
async def test_a_disk_without_room_is_named_and_runs_go_on_once_it_has_some(
    small_disk: Services, platform: Platform, tmp_path: Path
) -> None:
    for number in range(50):
        platform.add_model(f"m{number}")
    variables = environment(small_disk, "full", platform, **OFTEN)
    await migrate(variables)
    replica = Replica("replica", variables, tmp_path)
    try:
        await replica.until(says("database", "ok"))
        ballast = await asyncio.to_thread(small_disk.postgres.fill_disk)
        await replica.until(lambda page: page["dependencies"]["database"] != "ok")
        reasons = {line.get("reason") for line in replica.fresh_lines() if line.get("event") == "critical"}
        ballast.unlink()
        await asyncio.to_thread(small_disk.postgres.start)
        before = await runs(small_disk, "full")
        await replica.until(lambda page: page["status"] == "ok")
        await until_more(small_disk, "full", before)
        assert "database_full" in reasons
    finally:
        assert await replica.stop() == 0


@pytest.mark.waits(10)
@pytest.mark.parametrize("alarm", ALARMS)
async def test_a_broker_with_an_alarm_is_named_and_what_waits_goes_out_once_it_is_over(
    services: Services, make_bench: MakeBench, platform: Platform, alarm: str
) -> None:
    on, off = ALARMS[alarm]
    bench = await make_bench(IDLE_LIMIT_SECONDS=2, IDLE_WARNING_LEAD_SECONDS=1.9, RABBITMQ_TIMEOUT_SECONDS=1)
    for name, rate in (("m", 0.0), ("other", 5.0)):
        platform.add_model(name)
        platform.set_rate(name, rate)
    platform.call("m")
    now = datetime.now(UTC).replace(microsecond=0)
    slots = [
        (now - timedelta(minutes=5), now + timedelta(hours=1)),
        (now + timedelta(hours=1), now + timedelta(hours=2)),
    ]
    platform.add_reservation("00000000-0000-0000-0000-000000000001", "ann", "m", slots=slots)
    await bench.run(Job.RPS_CHECK)
    async with asyncio.timeout(20):
        while not await bench.rows(tables.outbox):
            await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    await asyncio.to_thread(services.rabbitmq.control, *on)
    try:
        await bench.run(Job.EVENT_DISPATCH)
        (waiting,) = await bench.rows(tables.outbox)
        assert waiting.published_at is None
        assert BLOCKED in waiting.error
        assert (await bench.replica.health.dependencies())["rabbitmq"] == BLOCKED
        async with compose_doctor(bench.settings) as doctor:
            with pytest.raises(Wrong, match=BLOCKED):
                await doctor._rabbitmq()
        code, _, err = await ctl("--timeout", "1", "pause", "cleanup", **reaching(bench))
        assert code == 1
        assert "RabbitMQ: the message was not taken within 1 s, as with a memory or disk alarm there" in err
    finally:
        await asyncio.to_thread(services.rabbitmq.control, *off)
    async with asyncio.timeout(20):
        while (await bench.rows(tables.outbox))[0].published_at is None:
            await bench.run(Job.EVENT_DISPATCH)
    assert (await bench.replica.health.dependencies())["rabbitmq"] == "ok"
    assert {event["message_id"] for event in await bench.events()} == {str(waiting.message_id)}


@pytest.mark.waits(20)
async def test_a_log_that_nobody_reads_stops_nothing_and_is_said(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    # At INFO runs without an effect hardly log: so does a replica beside another one that wins them all.
    variables = environment(services, schema, platform, **OFTEN, LOG_LEVEL="INFO")
    replica = Replica("replica", variables, tmp_path, unread=True)
    try:
        await replica.fill_log()
        await replica.until(lambda page: any("nobody reads the log" in warning for warning in page["warnings"]))
        before = await runs(services, schema)
        await until_more(services, schema, before + 20)
        replica.read_log()
        await replica.until(lambda page: page["status"] == "ok" and not page["warnings"])
    finally:
        assert await replica.stop() == 0
    assert replica.fresh_lines()[-1]["event"] == "stopped"


@pytest.mark.waits(20)
@pytest.mark.parametrize("hour", [-3600.0, 3600.0])
async def test_a_clock_that_is_set_while_it_runs_stops_all_runs_until_it_is_right_again(
    services: Services, schema: str, platform: Platform, tmp_path: Path, hour: float
) -> None:
    variables = environment(services, schema, platform, **OFTEN, CLOCK_SKEW_LIMIT_SECONDS=5)
    replica = Replica("replica", variables, tmp_path, clock_off=0.0)
    try:
        await replica.until(lambda page: page["status"] == "ok")
        replica.set_clock(hour)
        await replica.until(says("clock", "off the database's clock"))
        before = await runs(services, schema)
        await asyncio.sleep(2)  # of intervals of 0.2 s
        assert await runs(services, schema) <= before + len(Job)  # what was under way may have ended
        replica.set_clock(-hour)
        await replica.until(lambda page: page["status"] == "ok")
        await until_more(services, schema, before + 20)
        events = [line.get("event") for line in replica.fresh_lines()]
        assert "clock_set" in events
    finally:
        assert await replica.stop() == 0
