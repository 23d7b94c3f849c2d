"""A replica keeps what it wrote last, and reads it again as soon as anybody may have written after it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from sqlalchemy import event, update

from dev.fake_platform.faults import Fault
from dev.fake_platform.platform import Exchange, Platform
from dev.servers.services import Services
from limiter.db import tables
from limiter.domain.deciding import FleetDecisions, decide_fleet
from limiter.domain.fleet import Fleet
from limiter.domain.job import Job
from limiter.domain.policy import Policy
from limiter.domain.settled import Settled
from limiter.jobs import rps_check
from tests.bench import Bench, open_bench
from tests.conftest import START

TICK = timedelta(seconds=15)
RATE = 4.0


@pytest.fixture
async def benches(
    services: Services, schema: str, platform: Platform, time: FrozenDateTimeFactory
) -> AsyncIterator[list[Bench]]:
    """Two replicas of one deployment, and a model that is called."""
    platform.add_model("m")
    platform.set_rate("m", RATE)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_bench(services, schema, platform)) for _ in range(2)]


def reads_of_series(bench: Bench) -> Callable[[], bool]:
    """Whether this replica has read the series since it was last asked."""
    reads = [0]

    def count(*arguments: object) -> None:
        statement = str(arguments[2])
        reads[0] += statement.startswith("SELECT") and ".series" in statement

    event.listen(bench.engine.sync_engine, "before_cursor_execute", count)

    def since() -> bool:
        found, reads[0] = reads[0], 0
        return found > 0

    return since


async def calls(bench: Bench) -> float:
    """All calls that were counted of the model."""
    (used,) = await bench.rows(tables.usage)
    return sum(float(sample[2]) for sample in json.loads(used.samples))


async def test_a_takeover_in_between_is_noticed_and_no_call_is_counted_twice(
    benches: list[Bench], time: FrozenDateTimeFactory
) -> None:
    ours, theirs = benches
    reads = reads_of_series(ours)
    await ours.run(Job.RPS_CHECK)
    assert not reads()  # there was no target yet, and so no series to read
    for _ in range(2):
        time.tick(TICK)
        await ours.run(Job.RPS_CHECK, Job.IDLE_WARNING)
        assert not reads()
    time.tick(TICK)
    await theirs.run(Job.RPS_CHECK)
    time.tick(TICK)
    await ours.run(Job.RPS_CHECK)
    assert reads()
    assert await calls(ours) == pytest.approx(4 * TICK.total_seconds() * RATE)
    time.tick(TICK)
    await ours.run(Job.RPS_CHECK)
    assert not reads()


async def test_a_tick_goes_on_from_the_models_that_the_last_one_left_settled_unless_another_wrote_between(
    benches: list[Bench], time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    went_on: list[bool] = []

    def spy(policy: Policy, fleet: Fleet, *given: Any, before: Settled | None, **more: Any) -> FleetDecisions:
        observation, states, latest, now = given
        went_on.append(before is not None and before.is_of(policy, fleet, states))
        return decide_fleet(policy, fleet, observation, states, latest, now, before=before, **more)

    monkeypatch.setattr(rps_check, "decide_fleet", spy)
    ours, theirs = benches
    for replica in (ours, ours, ours, theirs, ours, ours):
        time.tick(TICK)
        await replica.run(Job.RPS_CHECK)
    assert went_on == [False, True, True, False, False, True]


async def test_an_idle_job_does_not_believe_a_memory_after_which_another_replica_wrote(
    benches: list[Bench], time: FrozenDateTimeFactory
) -> None:
    ours, theirs = benches
    reads = reads_of_series(ours)
    await ours.run(Job.RPS_CHECK)
    time.tick(TICK)
    await theirs.run(Job.RPS_CHECK)
    await ours.run(Job.IDLE_WARNING)
    assert reads()


async def test_an_idle_job_keeps_what_it_has_read_until_rps_check_runs_again(
    benches: list[Bench], time: FrozenDateTimeFactory
) -> None:
    ours, theirs = benches
    reads = reads_of_series(ours)
    await theirs.run(Job.RPS_CHECK)
    await ours.run(Job.IDLE_WARNING)
    assert reads()
    await ours.run(Job.IDLE_WARNING)
    assert not reads()
    time.tick(TICK)
    await theirs.run(Job.RPS_CHECK)
    await ours.run(Job.IDLE_WARNING)
    assert reads()
    time.tick(TICK)
    await ours.run(Job.RPS_CHECK)  # it goes by what it wrote itself, or reads anew
    assert reads()
    await ours.run(Job.IDLE_WARNING)
    assert not reads()


async def test_an_idle_job_keeps_nothing_that_it_has_read_while_rps_check_runs(
    benches: list[Bench], time: FrozenDateTimeFactory
) -> None:
    """That run may still write, and its claim is older than the reading."""
    ours, theirs = benches
    await theirs.run(Job.RPS_CHECK)
    reads = reads_of_series(ours)
    under_way = update(tables.job).where(tables.job.c.name == Job.RPS_CHECK).values(running_epoch=tables.job.c.epoch)
    async with ours.engine.begin() as connection:
        await connection.execute(under_way)
    for _ in range(2):
        await ours.run(Job.IDLE_WARNING)
        assert reads()


async def test_a_run_of_another_replica_that_could_read_no_page_is_noticed_too(
    benches: list[Bench], platform: Platform, time: FrozenDateTimeFactory
) -> None:
    """It leaves the targets as they were, and writes what it decided all the same."""
    ours, theirs = benches
    reads = reads_of_series(ours)
    await ours.run(Job.RPS_CHECK)
    platform.fault("entrypoint", Fault.status(503))
    platform.add_model("new")
    time.tick(TICK)
    await theirs.run(Job.RPS_CHECK)
    platform.clear_faults()
    time.tick(TICK)
    await ours.run(Job.RPS_CHECK)
    assert reads()
    noted = {row.model_name: row.first_seen_at for row in await ours.rows(tables.scaling_state)}
    assert noted["new"] == START + TICK


async def test_a_database_that_was_put_back_is_noticed_although_the_runs_follow_on_each_other(
    benches: list[Bench], time: FrozenDateTimeFactory
) -> None:
    ours = benches[0]
    reads = reads_of_series(ours)
    await ours.run(Job.RPS_CHECK)
    async with ours.engine.begin() as connection:
        await connection.execute(update(tables.target).values(read_at=tables.target.c.read_at - TICK))
    time.tick(TICK)
    await ours.run(Job.RPS_CHECK)
    assert reads()


async def test_what_is_kept_is_read_again_after_an_hour(benches: list[Bench], time: FrozenDateTimeFactory) -> None:
    ours = benches[0]
    reads = reads_of_series(ours)
    await ours.run(Job.RPS_CHECK)
    time.tick(timedelta(minutes=59))
    await ours.run(Job.RPS_CHECK)
    assert not reads()
    time.tick(timedelta(minutes=1))
    await ours.run(Job.RPS_CHECK)
    assert reads()


async def test_a_page_read_before_another_replica_wrote_does_not_look_like_a_restart(
    benches: list[Bench], platform: Platform, time: FrozenDateTimeFactory
) -> None:
    """The registry may take longer to answer than the metrics pages, and a whole run of rps_check go by meanwhile."""
    ours, theirs = benches
    platform.call("m", times=5000)
    for _ in range(2):
        await theirs.run(Job.RPS_CHECK)
        time.tick(TICK)
    slow = platform.fault("registry", Fault.hang(), times=1)
    read = len(pages(platform))
    waiting = asyncio.create_task(ours.run(Job.IDLE_WARNING))
    async with asyncio.timeout(10):
        while True:
            if len(pages(platform)) == read + len(platform.metrics_urls):
                break
            await asyncio.sleep(0.01)
    time.tick(TICK)
    await theirs.run(Job.RPS_CHECK)
    platform.end_fault(slow)
    await waiting
    assert ours.criticals() == {}


def pages(platform: Platform) -> list[Exchange]:
    return [call for call in platform.history if call.service == "entrypoint"]
