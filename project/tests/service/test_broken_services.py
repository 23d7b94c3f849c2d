"""Unknown is not zero: on a broken answer of any service nobody is warned, nothing is cancelled or scaled down."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Fault, Platform, Service
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench

ANN = str(UUID(int=1))
JOBS = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH, Job.SAGA_POLL)


async def idle_fleet(make_bench: MakeBench) -> Bench:
    """An unused, oversized model with a row of booked slots: it would be warned about, cancelled, scaled down."""
    bench = await make_bench()
    platform = bench.platform
    platform.add_model("idle", replicas=4)
    platform.add_model("used")
    platform.call("used")
    platform.call("idle")
    slots = [(START + timedelta(hours=hour), START + timedelta(hours=hour + 1)) for hour in range(6)]
    platform.add_reservation(ANN, "ann", "idle", slots=slots)
    await bench.run(Job.RPS_CHECK)
    return bench


async def pass_time(bench: Bench, time: FrozenDateTimeFactory, minutes: int, step: int = 1) -> None:
    """Let so many minutes pass, and run all jobs that can have an effect every `step` of them."""
    for _ in range(0, minutes, step):
        time.tick(timedelta(minutes=step))
        for job in JOBS:
            if await bench.has_work(job):
                await bench.attempt(job)


def renamed(page: str) -> str:
    return page.replace("model_calls_total", "model_requests_total")


BROKEN: dict[str, tuple[Service, Fault, str]] = {
    "500": ("entrypoint", Fault.status(500), "metrics_unavailable"),
    "empty": ("entrypoint", Fault.empty(), "metrics_family_missing"),
    "garbage": ("entrypoint", Fault.garbage(b"\x00<html>model_calls_total{"), "metrics_broken"),
    "renamed": ("entrypoint", Fault.rewrite(renamed), "metrics_family_missing"),
    "reset": ("entrypoint", Fault.reset(), "metrics_unavailable"),
    "truncated": ("entrypoint", Fault.truncated(), "metrics_unavailable"),
    "bookings 500": ("booking", Fault.status(500), "booking_unavailable"),
    "bookings garbage": ("booking", Fault.garbage(b"[1,2"), "booking_contract_broken"),
    "bookings of another shape": ("booking", Fault.json({"items": [{}], "total": 1}), "booking_contract_broken"),
    "bookings cut short": ("booking", Fault.json({"items": [], "total": 7}), "booking_unavailable"),
    "registry 500": ("registry", Fault.status(500), "registry_unavailable"),
    "registry of another shape": ("registry", Fault.json({"models": []}), "registry_contract_broken"),
}


async def test_with_good_answers_the_same_fleet_is_warned_and_scaled_down(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    await pass_time(bench, time, 1)
    time.tick(timedelta(hours=2))
    await pass_time(bench, time, 8, step=2)
    assert await bench.stages() == ["warning"]
    assert [command.replicas for command in bench.platform.commands] == [1]


@pytest.mark.parametrize("case", BROKEN)
async def test_nothing_is_taken_away_on_a_broken_answer(
    case: str, make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    service, fault, reason = BROKEN[case]
    bench = await idle_fleet(make_bench)
    bench.platform.fault(service, fault)
    before = len(bench.platform.commands)
    await pass_time(bench, time, 1)
    time.tick(timedelta(hours=2))
    await pass_time(bench, time, 8, step=2)
    assert await bench.events() == []
    assert bench.platform.deletions == []
    if service != "booking":  # bookings play no part in scaling
        assert bench.platform.commands[before:] == []
    assert bench.criticals()[reason] >= 1


async def test_one_of_two_entrypoints_down_is_unknown_too(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await idle_fleet(make_bench)
    bench.platform.fault("entrypoint", Fault.status(503), path="/entrypoint/1/")
    time.tick(timedelta(hours=2))
    await pass_time(bench, time, 8, step=2)
    assert await bench.events() == []
    assert bench.platform.commands == []


async def test_what_was_missed_during_an_outage_is_made_up_for_after_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    bench.platform.fault("entrypoint", Fault.status(500))
    time.tick(timedelta(hours=2))
    await pass_time(bench, time, 1)
    bench.platform.clear_faults()
    await pass_time(bench, time, 1)
    assert await bench.stages() == ["warning"]


async def test_a_restarted_entrypoint_gives_back_the_time_that_cannot_be_known(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    time.tick(timedelta(minutes=30))
    bench.platform.restart_entrypoint(0)
    bench.platform.call("used")
    await pass_time(bench, time, 1)
    await pass_time(bench, time, 15, step=5)
    assert await bench.events() == []
    await pass_time(bench, time, 30, step=5)
    assert await bench.stages() == ["warning"]


async def test_a_booking_that_cannot_be_read_protects_its_own_model_only(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await idle_fleet(make_bench)
    bench.platform.add_model("other")
    slots = [(START + timedelta(hours=hour), START + timedelta(hours=hour + 1)) for hour in range(6)]
    platform.add_reservation(str(UUID(int=2)), "ben", "other", slots=slots)
    platform.add_reservation("not-a-uuid", "eve", "idle", slots=slots)
    await pass_time(bench, time, 1)
    time.tick(timedelta(hours=1))
    await pass_time(bench, time, 1)
    assert [event["reservation"]["model_name"] for event in await bench.events()] == ["other"]


async def test_an_unroutable_warning_keeps_the_booking_and_raises_the_alarm(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    await bench.inbox.unbind(bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key)
    time.tick(timedelta(hours=1))
    await pass_time(bench, time, 40, step=5)
    assert bench.platform.deletions == []
    assert bench.criticals()["event_unroutable"] >= 1


async def test_a_warning_that_a_full_queue_refuses_is_not_delivered(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await idle_fleet(make_bench)
    exchange, key = bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key
    full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    queue = await bench.channel.declare_queue(exclusive=True, arguments=full)
    await queue.bind(exchange, key)
    await bench.inbox.unbind(exchange, key)
    time.tick(timedelta(hours=1))
    await pass_time(bench, time, 40, step=5)
    assert bench.platform.deletions == []
    assert bench.criticals()["event_unconfirmed"] >= 1
    assert {spell.state for spell in await bench.rows(tables.idle_spell)} == {"warning_pending"}


async def test_a_cancellation_that_is_refused_is_told_as_failed_and_the_rest_goes_on(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await idle_fleet(make_bench)
    time.tick(timedelta(minutes=45))
    await pass_time(bench, time, 1)
    assert await bench.stages() == ["warning"]
    platform.fault("booking", Fault.status(409), method="DELETE", times=1)
    await pass_time(bench, time, 15, step=5)
    (event,) = await bench.events()
    assert len(event["reservation"]["failed_slots"]) == 1
    assert len(event["reservation"]["cancelled_slots"]) == 3


async def test_a_booking_service_that_goes_away_in_the_middle_is_waited_for(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await idle_fleet(make_bench)
    time.tick(timedelta(minutes=45))
    await pass_time(bench, time, 1)
    await bench.events()
    platform.fault("booking", Fault.status(500), method="DELETE")
    await pass_time(bench, time, 15, step=5)
    assert await bench.events() == []
    platform.clear_faults()
    await pass_time(bench, time, 1)
    (event,) = await bench.events()
    assert len(event["reservation"]["cancelled_slots"]) == 4


async def test_use_in_the_middle_of_cancelling_stops_the_rest_and_the_user_hears_exactly_what_went(
    make_bench: MakeBench, time: FrozenDateTimeFactory, platform: Platform
) -> None:
    bench = await idle_fleet(make_bench)
    time.tick(timedelta(minutes=45))
    await pass_time(bench, time, 1)
    await bench.events()
    # The DELETE is carried out and not answered; before the next run takes it up again, the user calls.
    platform.fault("booking", Fault.lost_answer(), method="DELETE", times=1)
    time.tick(timedelta(minutes=15))
    platform.fault("booking", Fault.status(500), method="DELETE")
    await bench.attempt(Job.IDLE_ENFORCE)
    (gone,) = platform.deletions
    platform.clear_faults()
    platform.call("idle")
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    (event,) = await bench.events()
    assert platform.deletions == [gone]
    assert event["reservation"]["stage"] == "cancelled"
    listed = [(slot["slot_id"], slot["already_gone"]) for slot in event["reservation"]["cancelled_slots"]]
    assert listed == [(slot.id, True) for slot in gone.slots]
