"""The lock, the due row and the fence, through a real pgbouncer."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from loguru import logger
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from dev.chaos.tcp_proxy import TcpProxy
from dev.servers.services import Services
from limiter.db import tables
from limiter.db.engine import create_engine
from limiter.domain.job import Job
from limiter.runner.claim import Cause, Claim, RunState
from limiter.runner.due import Due
from limiter.runner.guard import LockLost
from limiter.runner.job_table import JobTable
from limiter.runner.run import Run
from tests.conftest import MakeBench
from tests.integration.db.test_engine import end_by_server

HOUR = 3600.0


async def test_only_one_of_two_replicas_gets_a_jobs_lock_and_the_other_jobs_are_free(make_bench: MakeBench) -> None:
    first, second = [(await make_bench()).replica.lock for _ in range(2)]
    async with first.acquire(Job.RPS_CHECK) as acquired:
        assert acquired is not None
        async with second.acquire(Job.RPS_CHECK) as refused, second.acquire(Job.SAGA_POLL) as other:
            assert refused is None
            assert other is not None
    async with second.acquire(Job.RPS_CHECK) as freed:
        assert freed is not None


async def test_a_due_interval_is_claimed_once(make_bench: MakeBench) -> None:
    replica = (await make_bench()).replica
    async with replica.lock.acquire(Job.RPS_CHECK):
        claim = await replica.table.claim(Job.RPS_CHECK, HOUR, Cause.SCHEDULE)
        assert claim is not None
        await replica.table.finish(claim, RunState.COMPLETED, None)
        assert await replica.table.claim(Job.RPS_CHECK, HOUR, Cause.SCHEDULE) is None
        manual = await replica.table.claim(Job.RPS_CHECK, HOUR, Cause.MANUAL)
        assert manual is not None
        assert manual.epoch == claim.epoch + 1


async def test_a_lost_run_is_marked_and_run_again_at_most_as_often_as_allowed(make_bench: MakeBench) -> None:
    bench = await make_bench(JOB_ATTEMPTS=3)
    table = bench.replica.table
    causes = []
    async with bench.replica.lock.acquire(Job.RPS_CHECK):
        while (claim := await table.claim(Job.RPS_CHECK, HOUR, Cause.SCHEDULE)) is not None:
            causes.append(claim.cause)
    assert causes == [Cause.SCHEDULE, Cause.ORPHAN, Cause.ORPHAN]
    assert [run.state for run in await bench.rows(tables.job_run)] == ["lost", "lost", "lost"]
    assert not (await table.due(Job.RPS_CHECK, HOUR)).due


async def test_missed_intervals_are_counted_and_caught_up_once(make_bench: MakeBench) -> None:
    bench = await make_bench()
    table = bench.replica.table
    async with bench.engine.begin() as connection:
        past = text("now() - interval '30 seconds'")
        await connection.execute(update(tables.job).values(next_due_at=past))
    async with bench.replica.lock.acquire(Job.RPS_CHECK):
        claim = await table.claim(Job.RPS_CHECK, 10.0, Cause.SCHEDULE)
        assert claim is not None
        assert claim.missed in (2, 3)
        await table.finish(claim, RunState.COMPLETED, None)
        assert await table.claim(Job.RPS_CHECK, 10.0, Cause.SCHEDULE) is None


async def test_a_run_whose_epoch_is_over_cannot_write(make_bench: MakeBench) -> None:
    bench = await make_bench()
    table = bench.replica.table
    async with bench.replica.lock.acquire(Job.RPS_CHECK) as guard:
        assert guard is not None
        old = await table.claim(Job.RPS_CHECK, HOUR, Cause.SCHEDULE)
        assert old is not None
        run = Run(old, datetime.now(UTC), guard, bench.engine, bench.telemetry)
        async with run.write():
            pass
        assert await table.claim(Job.RPS_CHECK, HOUR, Cause.MANUAL) is not None
        with pytest.raises(LockLost, match="another replica took the job"):
            async with run.write():
                pytest.fail("a write of an old epoch went through")


@pytest.mark.parametrize("inside", ["a write", "a statement of a write", "a statement of the finish"])
async def test_a_replica_that_falls_silent_does_not_keep_the_job_for_long(
    services: Services, schema: str, make_bench: MakeBench, inside: str
) -> None:
    quick = {"LOCK_HEARTBEAT_SECONDS": 0.2, "LOCK_TRUST_SECONDS": 0.5, "LOCK_IDLE_TIMEOUT_SECONDS": 1}
    bench = await make_bench(**quick, DATABASE_TIMEOUT_SECONDS=1)
    lock, table = bench.replica.lock, bench.replica.table
    async with lock.acquire(Job.RPS_CHECK) as guard, TcpProxy(services.pgbouncer.port) as proxy:
        assert guard is not None
        old = await table.claim(Job.RPS_CHECK, HOUR, Cause.SCHEDULE)
        assert old is not None
        through = services.database_url.replace(str(services.pgbouncer.port), str(proxy.port))
        engine = create_engine(through, schema, 1, 10)
        run = Run(old, datetime.now(UTC), guard, engine, bench.telemetry)
        finish = replace(table, engine=engine)._writing(Job.RPS_CHECK)
        with pytest.raises(DBAPIError):
            await _silent_inside(finish if "finish" in inside else run.write(), table, proxy, inside)
        await engine.dispose()


async def _silent_inside(
    writing: AbstractAsyncContextManager[AsyncConnection], table: JobTable, proxy: TcpProxy, inside: str
) -> None:
    """Fall silent inside a transaction until another replica can claim the job; then go on."""
    async with writing as connection:
        if "finish" in inside:
            await connection.execute(update(tables.job_run).values(error="ended"))
        if "statement" in inside:
            # Parsed and not executed: Postgres waits for the rest, and does not call that idle.
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.prepare("SELECT 1")
        proxy.cut()
        claim = None
        async with asyncio.timeout(8):
            while claim is None:
                with suppress(DBAPIError, TimeoutError):
                    claim = await table.claim(Job.RPS_CHECK, HOUR, Cause.MANUAL)
                await asyncio.sleep(0.05)
        proxy.heal(resume=True)
        await connection.execute(text("SELECT 1"))


async def test_an_interrupted_run_is_resumed_at_once(make_bench: MakeBench) -> None:
    replica = (await make_bench()).replica
    async with replica.lock.acquire(Job.RPS_CHECK):
        claim = await replica.table.claim(Job.RPS_CHECK, HOUR, Cause.SCHEDULE)
        assert claim is not None
        await replica.table.finish(claim, RunState.INTERRUPTED, "stopping")
    assert (await replica.table.due(Job.RPS_CHECK, HOUR)).due


async def test_an_acquired_lock_keeps_no_snapshot_that_would_hold_vacuum_back(make_bench: MakeBench) -> None:
    bench = await make_bench()
    query = text("SELECT backend_xmin FROM pg_stat_activity WHERE state = 'idle in transaction'")
    async with bench.replica.lock.acquire(Job.RPS_CHECK), bench.engine.connect() as connection:
        found = [row.backend_xmin for row in await connection.execute(query)]
    assert found == [None]


async def test_the_loss_of_the_locks_connection_is_noticed_without_a_query(make_bench: MakeBench) -> None:
    bench = await make_bench()
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
    async with bench.replica.lock.acquire(Job.RPS_CHECK) as guard:
        assert guard is not None
        lost = asyncio.Event()
        guard.on_lost = lost.set
        async with bench.engine.connect() as connection:
            await connection.execute(kill)
        async with asyncio.timeout(2):
            await lost.wait()
        with pytest.raises(LockLost):
            guard.check()


async def test_a_heartbeat_right_after_the_server_ended_the_connection_fails_as_any_other(
    services: Services, schema: str, make_bench: MakeBench
) -> None:
    bench = await make_bench()
    guards = create_engine(services.direct_database_url, schema, 1, 10)
    async with replace(bench.replica.lock, guards=guards).acquire(Job.RPS_CHECK) as guard:
        assert guard is not None
        driver = (await guard._connection.get_raw_connection()).driver_connection
        assert driver is not None
        end_by_server(driver)
        with pytest.raises(ConnectionError, match="heartbeat failed"):
            await guard.refresh()
        driver.terminate()
    await guards.dispose()


async def test_a_run_whose_locks_connection_is_lost_ends_at_once_and_the_log_says_why(make_bench: MakeBench) -> None:
    bench = await make_bench()
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
    said: list[tuple[str, str, str]] = []

    async def body(_: Run) -> None:
        async with bench.engine.connect() as connection:
            await connection.execute(kill)
        await asyncio.Event().wait()

    def note(message: Any) -> None:
        extra = message.record["extra"]
        said.append((extra.get("event"), extra.get("job"), message.record["message"]))

    bench.scheduler._specs[Job.RPS_CHECK] = replace(bench.scheduler._specs[Job.RPS_CHECK], body=body)
    sink = logger.add(note, level="INFO")
    async with asyncio.timeout(10):
        report = await bench.attempt(Job.RPS_CHECK)
    logger.remove(sink)
    assert (report.state, report.detail) == (RunState.LOST, "connection lost")
    assert said == [("lock_lost", "rps_check", "connection lost"), ("run_ended", "rps_check", "rps_check lost")]


async def test_a_clock_that_is_off_runs_nothing_and_raises_the_alarm(make_bench: MakeBench) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)
    bench.scheduler._clock = lambda: datetime(2020, 1, 1, tzinfo=UTC)
    await bench.scheduler.tick(Job.SAGA_POLL)
    assert await bench.rows(tables.job_run) == []
    assert bench.criticals() == {"clock_skew": 1}


async def test_the_ticks_of_an_outage_raise_one_alarm_a_minute_and_the_next_outage_its_own(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)

    async def away(*_: object) -> Due:
        raise ConnectionRefusedError("no Postgres here")

    for outage in (1, 2):
        with monkeypatch.context() as broken:
            broken.setattr(JobTable, "due", away)
            for job in (Job.SAGA_POLL, Job.RPS_CHECK, Job.SAGA_POLL):
                await bench.scheduler.tick(job)
        assert bench.criticals() == {"database_unavailable": outage}
        await bench.scheduler.tick(Job.SAGA_POLL)
    bench.scheduler._clock = lambda: datetime.now(UTC) + timedelta(seconds=60)
    for job in (Job.RPS_CHECK, Job.IDLE_WARNING, Job.IDLE_ENFORCE):
        await bench.scheduler.tick(job)
    assert bench.criticals()["clock_skew"] == 1


async def test_a_clock_that_is_off_obeys_no_hand_either_and_the_reply_says_why(make_bench: MakeBench) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)
    bench.scheduler._clock = lambda: datetime.now(UTC) + timedelta(seconds=6)
    report = await bench.attempt(Job.SAGA_POLL)
    assert (report.run_id, report.state) == (None, RunState.FAILED)
    assert report.detail == "this replica's clock is 6 s off the database's clock"
    assert await bench.rows(tables.job_run) == []
    assert bench.criticals() == {"clock_skew": 1}
    bench.scheduler._clock = lambda: datetime.now(UTC) + timedelta(seconds=4)
    assert (await bench.attempt(Job.SAGA_POLL)).state is RunState.COMPLETED


async def test_a_run_in_which_the_clock_was_set_writes_nothing_more(make_bench: MakeBench) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)
    spec = bench.scheduler._specs[Job.RPS_CHECK]

    async def body(run: Run) -> None:
        async with run.write():
            pass
        bench.scheduler._clock = lambda: datetime.now(UTC) + timedelta(hours=1)
        async with run.write():
            pytest.fail("a write by another clock went through")

    bench.scheduler._specs[Job.RPS_CHECK] = replace(spec, body=body)
    report = await bench.attempt(Job.RPS_CHECK)
    assert (report.state, report.detail) == (RunState.LOST, "the clock of this replica was set by 3600 s")


@pytest.mark.parametrize("claimed", [False, True])
async def test_no_run_begins_once_the_clock_was_set(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, claimed: bool
) -> None:
    bench = await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)
    claim = JobTable.claim

    async def late(*arguments: Any) -> Claim | None:
        made = await claim(*arguments) if claimed else None
        bench.scheduler._clock = lambda: datetime.now(UTC) + timedelta(hours=1)
        return made or await claim(*arguments)

    async def body(run: Run) -> None:
        pytest.fail(f"{run.claim.run_id} began by another clock")

    bench.scheduler._specs[Job.RPS_CHECK] = replace(bench.scheduler._specs[Job.RPS_CHECK], body=body)
    monkeypatch.setattr(JobTable, "claim", late)
    await bench.scheduler.tick(Job.RPS_CHECK)
    assert [run.state for run in await bench.rows(tables.job_run)] == ["running"] * claimed
    assert bench.criticals() == {}
    monkeypatch.setattr(JobTable, "claim", claim)
    other = (await make_bench(CLOCK_SKEW_LIMIT_SECONDS=5)).scheduler
    await other.tick(Job.RPS_CHECK)
    assert [run.state for run in await bench.rows(tables.job_run)] == ["lost"] * claimed + ["completed"]
