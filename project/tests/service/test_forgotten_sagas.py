"""Sagas that the dispatcher has forgotten, or cannot be asked for; and the brake. Composed."""

import asyncio

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Fault
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import MakeBench
from tests.integration.clients.wire import edited
from tests.service.commanding import SETTINGS, TIMEOUT, asked, calls, command, poll, under_way


@pytest.fixture
async def bench(make_bench: MakeBench, time: FrozenDateTimeFactory) -> Bench:
    return await make_bench(**SETTINGS)


async def followed(bench: Bench) -> None:
    """A scale to 2 that the dispatcher accepted, and whose saga goes on."""
    bench.platform.add_model("m")
    bench.platform.call("m")
    bench.platform.next_saga("stuck")
    await bench.run(Job.RPS_CHECK)
    assert (await command(bench)).state == "submitted"


async def test_a_forgotten_saga_is_asked_for_until_the_timeout_and_then_settled_as_failed(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    await followed(bench)
    bench.platform.sagas.clear()
    registry = calls(bench.platform, "/registry/")
    await poll(bench, time, TIMEOUT)
    assert (await command(bench)).state == "submitted"
    assert calls(bench.platform, "/registry/") == registry
    assert bench.criticals() == {}
    await poll(bench, time, 1)
    row = await command(bench)
    assert (row.state, row.failures) == ("failed", 1)
    assert row.error == "the dispatcher has forgotten the saga, and no effect in the registry"
    assert bench.criticals() == {"command_failed": 1}


async def test_a_saga_of_unknown_status_is_waited_for_and_told_once_not_at_each_poll(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    await followed(bench)
    bench.platform.fault("dispatcher", edited(lambda saga: saga | {"status": "resting"}), path="/saga/")
    for _ in range(3):
        await poll(bench, time, 5)
    assert (await command(bench)).state == "submitted"
    assert bench.criticals() == {"saga_status_unknown": 1}


async def test_a_saga_that_the_dispatcher_cannot_show_keeps_no_other_command_from_being_sent_and_followed(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(**SETTINGS, HTTP_CIRCUIT_FAILURES=4, HTTP_CIRCUIT_REST_SECONDS=3600)
    await followed(bench)
    (broken,) = bench.platform.sagas
    bench.platform.fault("dispatcher", Fault.status(500), path=f"/saga/{broken}")
    for _ in range(3):
        await poll(bench, time, 5)
    bench.platform.add_model("other")
    await bench.run(Job.RPS_CHECK)
    await poll(bench, time, 5)
    assert [row.state for row in await bench.rows(tables.command)] == ["submitted", "completed"]


async def test_a_forgotten_saga_whose_effect_shows_is_settled_as_completed(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    await followed(bench)
    bench.platform.sagas.clear()
    bench.platform.models[0].replicas = 2
    await poll(bench, time, TIMEOUT + 1)
    assert (await command(bench)).state == "completed"
    assert bench.criticals() == {}
    assert await bench.rows(tables.saga_time) == []


@pytest.mark.parametrize(("asked_after", "noted"), [(TIMEOUT, [[TIMEOUT]]), (TIMEOUT + 1, [])])
async def test_a_saga_that_ended_while_nobody_asked_does_not_count_as_one_that_lasted_so_long(
    bench: Bench, time: FrozenDateTimeFactory, asked_after: float, noted: list[list[float]]
) -> None:
    await followed(bench)
    next(iter(bench.platform.sagas.values())).outcome = "completed"
    await poll(bench, time, asked_after)
    assert (await command(bench)).state == "completed"
    assert [row.seconds for row in await bench.rows(tables.saga_time)] == noted


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.status(403), Fault.reset(), Fault.garbage()])
async def test_a_saga_that_cannot_be_asked_for_too_long_is_stuck_and_alarms_once(
    bench: Bench, time: FrozenDateTimeFactory, fault: Fault
) -> None:
    await followed(bench)
    bench.platform.fault("dispatcher", fault, path="saga")
    await poll(bench, time, TIMEOUT)
    assert (await command(bench)).state == "submitted"
    for _ in range(3):
        await poll(bench, time, 1)
    assert (await command(bench)).state == "stuck"
    assert bench.criticals()["saga_stuck"] == 1
    assert "cannot be asked" in (await command(bench)).error


async def test_a_stuck_command_ends_when_its_saga_can_be_asked_again(bench: Bench, time: FrozenDateTimeFactory) -> None:
    await followed(bench)
    bench.platform.fault("dispatcher", Fault.status(500), path="saga")
    await poll(bench, time, TIMEOUT + 1)
    assert (await command(bench)).state == "stuck"
    bench.platform.clear_faults()
    next(iter(bench.platform.sagas.values())).outcome = "completed"
    await poll(bench, time)
    assert (await command(bench)).state == "completed"


async def test_a_pause_stops_a_run_before_its_next_command_and_saga_poll_does_not_send_the_rest(
    bench: Bench, time: FrozenDateTimeFactory
) -> None:
    bench.platform.add_model("other")
    async with under_way(bench):
        await bench.replica.table.pause(Job.RPS_CHECK)
    assert asked(bench.platform) == [2]
    assert sorted(row.sent_at is None for row in await bench.rows(tables.command)) == [False, True]
    await poll(bench, time)
    assert asked(bench.platform) == [2]
    left = [row for row in await bench.rows(tables.command) if row.sent_at is None]
    assert [(row.state, row.error) for row in left] == [("failed", "never sent: rps_check is paused")]


async def test_a_run_by_hand_of_a_paused_job_sends_its_commands(bench: Bench) -> None:
    bench.platform.add_model("m")
    await bench.replica.table.pause(Job.RPS_CHECK)
    await bench.run(Job.RPS_CHECK)
    assert asked(bench.platform) == [2]


async def test_a_pause_stops_saga_poll_between_two_commands(bench: Bench, time: FrozenDateTimeFactory) -> None:
    for _ in range(2):
        bench.platform.add_model("m")
    await bench.run(Job.RPS_CHECK)
    unanswered = bench.platform.fault("dispatcher", Fault.hang(), path="saga", times=1)
    run = asyncio.create_task(poll(bench, time))
    await unanswered.met.wait()
    await bench.replica.table.pause(Job.SAGA_POLL)
    bench.platform.end_fault(unanswered)
    await run
    assert sorted(row.state for row in await bench.rows(tables.command)) == ["completed", "submitted"]
