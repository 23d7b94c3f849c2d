"""A pause is a brake: a run in progress hears of it, and one that began after the pause does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, update

from limiter.db import tables
from limiter.domain.job import Job
from limiter.runner.claim import Cause, RunState
from limiter.runner.run import Run
from tests.bench import Bench
from tests.conftest import START, MakeBench

JOB = Job.IDLE_ENFORCE


@asynccontextmanager
async def running(bench: Bench, cause: Cause = Cause.MANUAL) -> AsyncIterator[Run]:
    async with bench.replica.lock.acquire(JOB) as guard:
        assert guard is not None
        claim = await bench.replica.table.claim(JOB, 3600, cause)
        assert claim is not None
        yield Run(claim, datetime.now(UTC), guard, bench.engine, bench.telemetry)


async def test_a_run_is_braked_from_the_pause_of_its_own_job_until_it_is_resumed(make_bench: MakeBench) -> None:
    bench = await make_bench()
    table = bench.replica.table
    async with running(bench, Cause.SCHEDULE) as run:
        assert not await run.braked()
        await table.pause(Job.IDLE_WARNING)
        assert not await run.braked()
        await table.pause(JOB)
        assert await run.braked()
        async with run.write() as connection:
            assert await run.braked(connection)
        await table.resume(JOB, START)
        assert not await run.braked()


async def test_a_run_by_hand_of_a_paused_job_goes_on_until_it_is_paused_anew(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await bench.replica.table.pause(JOB)
    async with running(bench) as run:
        assert not await run.braked()
        await bench.replica.table.pause(JOB)
        assert await run.braked()


async def test_a_pause_asked_for_while_a_run_begins_brakes_it(make_bench: MakeBench) -> None:
    bench = await make_bench()
    async with bench.engine.begin() as claiming:
        # The row as a claim has it; the pause waits, and its transaction is older than the run.
        await claiming.execute(tables.job.update().where(tables.job.c.name == JOB).values(attempts=0))
        pause = asyncio.create_task(bench.replica.table.pause(JOB))
        await asyncio.sleep(0.2)
        run = {"job": JOB, "epoch": 0, "due_slot": START, "cause": "manual", "state": "running"}
        run |= {"started_at": datetime.now(UTC), "replica_id": bench.replica.table.replica_id}
        await claiming.execute(tables.job_run.insert().values(run))
        await asyncio.sleep(0.05)
    await pause
    (job,) = [row for row in await bench.rows(tables.job) if row.name == JOB]
    (began,) = await bench.rows(tables.job_run)
    assert job.paused_at > began.started_at


async def test_no_write_that_asked_for_the_brake_comes_after_the_pause(make_bench: MakeBench) -> None:
    bench = await make_bench()
    async with running(bench) as run:
        async with run.write() as connection:
            assert not await run.braked(connection)
            pause = asyncio.create_task(bench.replica.table.pause(JOB))
            await asyncio.sleep(0.2)
            assert not pause.done()
        await pause
        assert await run.braked()


async def test_who_paused_and_why_is_recorded_until_the_job_is_resumed(make_bench: MakeBench) -> None:
    bench = await make_bench()

    async def shown() -> tuple[object, ...]:
        (row,) = [row for row in await bench.rows(tables.job) if row.name == JOB]
        return row.paused, row.paused_by, row.paused_reason, row.paused_at is not None

    await bench.replica.table.pause(JOB, by="ann", reason="looking at it")
    assert await shown() == (True, "ann", "looking at it", True)
    await bench.replica.table.resume(JOB, START)
    assert await shown() == (False, None, None, False)


async def test_a_resume_of_a_job_that_is_not_paused_lets_no_idle_time_begin_anew(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await bench.replica.table.resume(JOB, START)
    assert {row.resumed_at for row in await bench.rows(tables.job)} == {None}


async def test_a_resume_runs_no_interval_twice(make_bench: MakeBench) -> None:
    bench = await make_bench()
    table = bench.replica.table
    async with bench.replica.lock.acquire(JOB):
        ran = await table.claim(JOB, 86_400, Cause.SCHEDULE)
        assert ran is not None
        await table.finish(ran, RunState.COMPLETED, None)
        await table.pause(JOB)
        await table.resume(JOB, START)
        assert not (await table.due(JOB, 86_400)).due
        assert await table.claim(JOB, 86_400, Cause.SCHEDULE) is None


async def test_a_resume_runs_a_job_that_missed_intervals_at_once_and_counts_none_as_missed(
    make_bench: MakeBench,
) -> None:
    bench = await make_bench()
    table = bench.replica.table
    await table.pause(JOB)
    async with bench.engine.begin() as connection:
        await connection.execute(update(tables.job).values(next_due_at=func.now() - timedelta(hours=1)))
    await table.resume(JOB, START)
    async with bench.replica.lock.acquire(JOB):
        claim = await table.claim(JOB, 10, Cause.SCHEDULE)
    assert claim is not None
    assert (claim.cause, claim.missed) == (Cause.SCHEDULE, 0)
