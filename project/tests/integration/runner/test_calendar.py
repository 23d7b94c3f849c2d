"""A calendar on the due row: of any number of replicas one runs each fire time, and a missed one is caught up once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from sqlalchemy import func, select, update

from limiter.db import tables
from limiter.domain.job import Job
from limiter.runner.claim import Cause, Claim, RunState
from limiter.runner.scheduler import JobScheduler
from limiter.wiring import Replica
from tests.bench import Bench
from tests.conftest import MakeBench

JOB = Job.CLEANUP
BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)
HOUR = 3600.0


async def database_time(bench: Bench) -> datetime:
    async with bench.engine.connect() as connection:
        return (await connection.execute(select(func.now()))).scalar_one().astimezone(UTC)


def daily(at: datetime) -> CronTrigger:
    """Every day at this time by Berlin's clock."""
    local = at.astimezone(BERLIN)
    return CronTrigger.from_crontab(f"{local.minute} {local.hour} * * *", timezone=BERLIN)


async def set_due(bench: Bench, at: datetime) -> None:
    async with bench.engine.begin() as connection:
        await connection.execute(update(tables.job).values(next_due_at=at))


async def next_due(bench: Bench) -> datetime:
    (row,) = [row for row in await bench.rows(tables.job) if row.name == JOB]
    at: datetime = row.next_due_at
    return at.astimezone(UTC)


async def claim(replica: Replica, calendar: CronTrigger, cause: Cause = Cause.SCHEDULE) -> Claim | None:
    """What a tick does: ask, take the lock, claim; the run ends at once."""
    if cause is Cause.SCHEDULE and not (await replica.table.due(JOB, HOUR, None, calendar)).due:
        return None
    async with replica.lock.acquire(JOB) as guard:
        made = await replica.table.claim(JOB, HOUR, cause, calendar) if guard else None
        if made is not None:
            await replica.table.finish(made, RunState.COMPLETED, None)
        return made


async def runs(bench: Bench) -> list[Any]:
    return [row for row in await bench.rows(tables.job_run) if row.job == JOB]


async def due_time(bench: Bench) -> datetime:
    """A whole minute that has just passed, or is passing."""
    return (await database_time(bench)).replace(second=0, microsecond=0)


async def test_of_two_replicas_one_runs_a_fire_time(make_bench: MakeBench) -> None:
    first, second = await make_bench(), await make_bench()
    fire = await due_time(first)
    await set_due(first, fire)
    claims = await asyncio.gather(*(claim(bench.replica, daily(fire)) for bench in (first, second) for _ in range(3)))
    assert len([made for made in claims if made is not None]) == 1
    (run,) = await runs(first)
    assert (run.due_slot, run.cause, run.state) == (fire, "schedule", "completed")
    assert abs(await next_due(first) - fire - DAY) <= timedelta(hours=1)  # an hour more or less where clocks change
    assert (await next_due(first)).astimezone(BERLIN).hour == fire.astimezone(BERLIN).hour


async def test_what_was_missed_is_caught_up_once_for_the_latest_fire_time(make_bench: MakeBench) -> None:
    first, second = await make_bench(), await make_bench()
    fire = await due_time(first)
    calendar = CronTrigger.from_crontab(f"{fire.minute} {fire.hour} * * *", timezone=UTC)
    await set_due(first, fire - 3 * DAY)
    claims = [await claim(bench.replica, calendar) for bench in (first, second, first, second)]
    made = [one for one in claims if one is not None]
    assert [one.missed for one in made] == [3]
    (run,) = await runs(first)
    assert run.due_slot == fire
    assert await next_due(first) == fire + DAY


async def test_before_its_fire_time_nothing_runs(make_bench: MakeBench) -> None:
    bench = await make_bench()
    fire = await due_time(bench) + timedelta(hours=2)
    await set_due(bench, fire)
    assert await claim(bench.replica, daily(fire)) is None
    async with bench.replica.lock.acquire(JOB):
        assert await bench.replica.table.claim(JOB, HOUR, Cause.SCHEDULE, daily(fire)) is None
    assert await runs(bench) == []


async def test_a_new_job_waits_for_its_first_fire_time(make_bench: MakeBench) -> None:
    """With an interval it would run at once: its row says now."""
    bench = await make_bench()
    assert (await bench.replica.table.due(JOB, HOUR)).due
    assert await claim(bench.replica, daily(await due_time(bench) + timedelta(hours=2))) is None


async def test_a_denser_calendar_brings_the_next_run_forward(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await set_due(bench, await database_time(bench) + 300 * DAY)
    fire = await due_time(bench) + timedelta(hours=2)
    assert await claim(bench.replica, daily(fire)) is None
    assert await next_due(bench) == fire
    assert await runs(bench) == []


async def test_a_sparser_calendar_takes_the_fire_time_of_the_old_one_back(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await set_due(bench, await due_time(bench))
    assert await claim(bench.replica, daily(await due_time(bench) + timedelta(hours=2))) is None


async def test_a_run_by_hand_takes_no_fire_time_away(make_bench: MakeBench) -> None:
    bench = await make_bench()
    fire = await due_time(bench)
    await set_due(bench, fire)
    assert await claim(bench.replica, daily(fire), Cause.MANUAL) is not None
    assert await next_due(bench) == fire
    assert await claim(bench.replica, daily(fire)) is not None
    assert await claim(bench.replica, daily(fire)) is None
    assert [run.cause for run in await runs(bench)] == ["manual", "schedule"]


async def test_a_lost_run_is_run_again_for_its_own_fire_time(make_bench: MakeBench) -> None:
    bench = await make_bench(JOB_ATTEMPTS=2)
    fire = await due_time(bench)
    await set_due(bench, fire)
    table = bench.replica.table
    async with bench.replica.lock.acquire(JOB):
        assert await table.claim(JOB, HOUR, Cause.SCHEDULE, daily(fire)) is not None
        assert (await table.due(JOB, HOUR, None, daily(fire))).due
        again = await table.claim(JOB, HOUR, Cause.SCHEDULE, daily(fire))
        assert again is not None
        assert again.cause is Cause.ORPHAN
        assert await table.claim(JOB, HOUR, Cause.SCHEDULE, daily(fire)) is None
    assert [run.due_slot for run in await runs(bench)] == [fire, fire]


async def test_a_paused_job_is_not_due_and_is_not_caught_up_after_its_pause(make_bench: MakeBench) -> None:
    bench = await make_bench()
    table, fire = bench.replica.table, await due_time(bench)
    await set_due(bench, fire)
    await table.pause(JOB)
    assert await claim(bench.replica, daily(fire)) is None
    await table.resume(JOB, datetime.now(UTC))
    assert await claim(bench.replica, daily(fire)) is None


async def test_back_on_its_interval_the_job_does_not_wait_for_the_calendar(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await set_due(bench, await database_time(bench) + 300 * DAY)
    assert (await bench.replica.table.due(JOB, HOUR)).due


@pytest.mark.parametrize("minute", ["*", None])
async def test_the_composed_replica_goes_by_its_calendar(make_bench: MakeBench, minute: str | None) -> None:
    """`CLEANUP_CRON` reaches the claim: every minute is due, the 29th of February is not."""
    expression = "* * * * *" if minute else "0 0 29 2 *"
    bench = await make_bench(CLEANUP_CRON=expression, CLEANUP_INTERVAL_SECONDS=1)
    await set_due(bench, await database_time(bench) - timedelta(minutes=3))
    await bench.scheduler.tick(JOB)
    await bench.scheduler.tick(JOB)
    if minute is None:
        assert await runs(bench) == []
    else:
        first, *_ = [run for run in await runs(bench) if run.cause == "schedule"]
        assert (first.due_slot.second, first.state) == (0, "completed")
        assert bench.count("job_missed_total", job="cleanup") in (2, 3)


async def test_a_job_with_a_calendar_is_looked_at_as_often_as_the_longest_tick_says(make_bench: MakeBench) -> None:
    bench = await make_bench(CLEANUP_CRON="0 3 * * *", CLEANUP_INTERVAL_SECONDS=0.4, TICK_LONGEST_SECONDS=7)
    assert _pause(bench.scheduler, JOB) == 7
    assert _pause((await make_bench(CLEANUP_INTERVAL_SECONDS=0.4)).scheduler, JOB) == 0.1


def _pause(scheduler: JobScheduler, job: Job) -> float:
    return scheduler._ticks.seconds(scheduler._specs[job])
