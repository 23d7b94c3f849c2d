"""One replica, or two, from start to stop: what they run, what they answer over HTTP, what they log."""

import asyncio
import re
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import func, select

from dev.fake_platform.platform import Platform
from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.db import tables
from limiter.db.engine import create_engine
from limiter.domain.job import Job
from tests.bench import environment
from tests.replicas import FAST, replicas

ALWAYS = set(Job) - {Job.EVENT_DISPATCH}  # that one runs only when there is an event to send


@pytest.mark.waits(65)
async def test_two_replicas_run_each_job_once_per_interval_for_60_intervals(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    platform.add_model("a")
    platform.call("a")
    engine = create_engine(services.database_url, schema, 1, 10)
    run = tables.job_run
    counts = select(run.c.job, func.count(), func.count(run.c.due_slot.distinct())).group_by(run.c.job)
    variables = environment(services, schema, platform, **FAST)
    async with replicas(2, variables, tmp_path) as pair:
        for replica in pair:
            await replica.ready()
        async with engine.connect() as connection, asyncio.timeout(240):
            while True:
                counted = {row[0]: (row[1], row[2]) for row in await connection.execute(counts)}
                await connection.rollback()
                if len(counted) == len(ALWAYS) and min(distinct for _, distinct in counted.values()) >= 60:
                    break
                await asyncio.sleep(0.5)
        assert [await replica.end() for replica in pair] == [0, 0]
    assert all(runs == distinct for runs, distinct in counted.values()), counted
    async with engine.connect() as connection:
        columns = select(run.c.job, run.c.due_slot, run.c.replica_id)
        rows = list(await connection.execute(columns.order_by(run.c.job, run.c.due_slot)))
    await engine.dispose()
    for job in ALWAYS:
        of_job = [row.due_slot for row in rows if row.job == job]
        interval = FAST[f"{job}_INTERVAL_SECONDS".upper()]
        steps = [(after - before).total_seconds() / interval for before, after in pairwise(of_job)]
        # A machine busy with other tests may miss an interval; never is a run off the grid, or an interval twice.
        assert all(round(step, 6) == round(step) >= 1 for step in steps), (job, steps)
    assert len({row.replica_id for row in rows}) == 2


async def test_a_stop_is_clean_no_traceback_and_no_secret_in_any_line(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    variables = environment(services, schema, platform, **FAST, LOG_LEVEL="DEBUG")
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.ready()
        platform.add_model("a")
        platform.call("a")
        done = re.compile(r'job_runs_total{job="idle_enforce",outcome="completed"} [1-9]')
        await replica.until(lambda page: done.search(page.text) is not None, "/metrics")
        assert await replica.end() == 0
        text = replica.log.read_text()
    assert "Traceback" not in text
    assert platform.token not in text
    assert "guest:guest" not in text
    runs = [line for line in replica.lines() if line.get("event") == "run_ended"]
    assert runs
    assert all({"job", "run", "state", "time", "level"} <= line.keys() for line in runs)


async def test_a_missing_schema_stops_the_start_and_names_the_remedy(
    services: Services, platform: Platform, tmp_path: Path
) -> None:
    async with replicas(1, environment(services, "nobody_migrated", platform), tmp_path) as (replica,):
        assert await asyncio.to_thread(replica.process.wait, 30) != 0
        assert "alembic upgrade head" in replica.log.read_text()


async def test_a_wrong_setting_stops_the_start_and_names_variable_value_and_rule(tmp_path: Path) -> None:
    async with replicas(1, {"IDLE_LIMIT_SECONDS": "-5"}, tmp_path) as (replica,):
        assert await asyncio.to_thread(replica.process.wait, 30) != 0
        text = replica.log.read_text()
    assert "IDLE_LIMIT_SECONDS='-5'" in text
    assert "greater than 0" in text
    assert "DATABASE_URL is not set" in text


async def test_health_and_metrics_say_what_they_should(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    platform.add_model("a")
    variables = environment(services, schema, platform, **FAST, SCALE_FLEET_MAX_REPLICAS=5)
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.ready()
        ready = (await replica.get("/health/readiness")).json()
        assert ready["dependencies"] == dict.fromkeys(("database", "rabbitmq", "scheduler", "clock"), "ok")
        assert (await replica.get("/health/liveness")).status_code == 200
        page = await replica.until(lambda page: "rps_limiter_models_observed 1.0" in page.text, "/metrics")
        assert "rps_limiter_fleet_replicas 1.0" in page.text
        assert 'rps_limiter_fleet_budget{tag=""} 5.0' in page.text
        for kind in ("scale_up", "scale_down", "uninstall", "cancel_booking"):
            assert f'rps_limiter_actions_in_progress{{kind="{kind}"}} 0.0' in page.text
        for name in ("models_fleet_full", "models_cancelled_total", "slots_cancelled_total", "events_pending"):
            assert f"rps_limiter_{name} 0.0" in page.text
        assert (await replica.get("/nothing")).status_code == 404


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_replica_that_waits_for_its_database_stays_up_says_so_and_stops_when_told(
    services: Services, schema: str, platform: Platform, tmp_path: Path, number: int
) -> None:
    nowhere = {"DATABASE_URL": f"postgresql+asyncpg://u@127.0.0.1:{free_port()}/d", "MIGRATIONS_DATABASE_URL": ""}
    async with replicas(1, environment(services, schema, platform) | nowhere, tmp_path) as (replica,):
        answer = await replica.until(lambda answer: answer.status_code == 503)
        assert answer.json()["dependencies"]["database"].startswith("unavailable")
        assert (await replica.get("/health/liveness")).status_code == 200
        assert await replica.end(number) == 0
