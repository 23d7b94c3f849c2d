"""What /metrics tells of a composed replica on real Postgres and RabbitMQ."""

from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from freezegun.api import FrozenDateTimeFactory
from loguru import logger
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, insert, select, update

from dev.fake_platform.faults import Fault
from dev.servers.processes import free_port
from limiter.clients.event_wire import time_view
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.test_status import ANN, got

MINUTE = timedelta(minutes=1)


async def page(bench: Bench) -> dict[str, dict[tuple[str, ...], float]]:
    """Our metrics: name -> values of the labels -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families((await got(bench, "/metrics")).text):
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix("rps_limiter_"), {})[tuple(sample.labels.values())] = sample.value
    return found


async def idle(make_bench: MakeBench, time: FrozenDateTimeFactory, **settings: Any) -> Bench:
    """Ann does not use her model of three replicas in the hour she has; two and a half more hours are booked."""
    bench = await make_bench(UNINSTALL_ON_IDLE="true", SCALE_MIN_REPLICAS=3, **settings)
    bench.platform.add_model("idle", replicas=3)
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 1.0)
    hours = [START + timedelta(minutes=minutes) for minutes in (0, 120, 180, 270)]
    slots = [(hours[0], hours[1]), (hours[1], hours[2]), (hours[2], hours[3])]
    bench.platform.add_reservation(ANN, "ann", "idle", slots=slots)
    await bench.run(Job.RPS_CHECK)
    time.move_to(START + 45 * MINUTE)
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH)
    time.move_to(START + 61 * MINUTE)
    await bench.run(Job.RPS_CHECK, Job.IDLE_ENFORCE)
    return bench


async def test_what_a_cancelling_freed_is_counted_in_hours(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench = await idle(make_bench, time)
    assert (await page(bench))["replica_hours_freed_total"][()] == 0  # not while the model may still run
    time.tick(60)
    await bench.run(Job.SAGA_POLL, Job.RPS_CHECK, Job.IDLE_ENFORCE)
    found = await page(bench)
    assert found["slots_cancelled_total"][()] == 2
    assert found["slot_hours_freed_total"][()] == 2.5
    assert found["replica_hours_freed_total"][()] == 7.5


async def test_a_dry_run_frees_nothing_and_says_so(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    lines: list[str] = []
    handle = logger.add(lambda message: lines.append(message.record["message"]))
    bench = await idle(make_bench, time, DRY_RUN="true")
    logger.remove(handle)
    assert "2 slots of idle would be cancelled: a dry run" in lines
    time.tick(60)
    await bench.run(Job.SAGA_POLL, Job.RPS_CHECK, Job.IDLE_ENFORCE)
    found = await page(bench)
    assert found["dry_run"][()] == 1
    assert found["slot_hours_freed_total"][()] == found["replica_hours_freed_total"][()] == 0
    assert found["decisions_total"]["cancel", "deadline_passed"] == 1


async def test_messages_that_were_not_understood_are_counted_where_they_lie(make_bench: MakeBench) -> None:
    bench = await make_bench()
    control, deployed = bench.settings.control_queue, bench.settings.deployed_queue
    assert (await page(bench))["dead_letters"] == {(control,): 0, (deployed,): 0}
    for _ in range(2):
        await bench.channel.default_exchange.publish(aio_pika.Message(b"?"), f"{control}.dead")
    assert (await page(bench))["dead_letters"] == {(control,): 2, (deployed,): 0}


async def test_each_model_has_its_numbers_only_where_that_is_asked_for(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(METRICS_PER_MODEL="true")
    used, unused = bench.platform.add_model("used", replicas=2), bench.platform.add_model("unused")
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 6.0)
    await bench.run(Job.RPS_CHECK)
    time.tick(60)
    await bench.run(Job.RPS_CHECK)
    time.tick(10)
    found = await page(bench)
    assert found["model_rps"] == {("used",): pytest.approx(6.0, rel=0.02), ("unused",): 0}
    assert found["model_replicas"] == {("used",): used.replicas + 1, ("unused",): unused.replicas}
    assert found["model_idle_seconds"] == {("used",): 10, ("unused",): 70}
    bench.platform.remove_model(unused)
    await bench.run(Job.RPS_CHECK)
    assert ("unused",) not in (await page(bench))["model_replicas"]


async def test_the_calls_of_a_model_are_not_known_once_a_page_was_not_read_for_two_windows(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench = await make_bench(METRICS_PER_MODEL="true")
    bench.platform.add_model("used")
    bench.platform.set_rate("used", 6.0)
    await bench.run(Job.RPS_CHECK)
    time.tick(60)
    await bench.run(Job.RPS_CHECK)
    bench.platform.fault("entrypoint", Fault.status(500), path="/entrypoint/1/")
    time.tick(60)
    await bench.attempt(Job.RPS_CHECK)
    time.tick(60)
    assert (await page(bench))["model_rps"]["used",] > 0
    time.tick(1)
    assert isnan((await page(bench))["model_rps"]["used",])
    (model,) = (await got(bench, "/status")).json()["models"]
    assert model["rps"] is None
    assert "not known" in (await got(bench, "/")).text


async def test_without_it_no_model_is_named(make_bench: MakeBench) -> None:
    bench = await make_bench()
    bench.platform.add_model("secret")
    await bench.run(Job.RPS_CHECK)
    answer = await got(bench, "/metrics")
    assert "rps_limiter_models_observed 1.0" in answer.text
    assert "secret" not in answer.text


async def test_models_that_are_scaled_to_and_fro_are_counted(make_bench: MakeBench) -> None:
    bench = await make_bench()
    often, seldom = uuid4(), uuid4()
    plan = [(often, "scale_up", 2, 50), (often, "scale_down", 2, 10), (seldom, "scale_up", 2, 5)]
    plan += [(seldom, "scale_down", 1, 5), (seldom, "scale_down", 1, 70)]
    async with bench.engine.begin() as connection:
        now = (await connection.execute(select(func.now()))).scalar_one()  # no test freezes the database's clock
        for model, decision, times, ago in plan:
            about = {"model_id": model, "model_name": "m", "decision": decision, "reason": "overloaded"}
            more: dict[str, Any] = {"decided_at": now - ago * MINUTE, "numbers": {}, "dry_run": False, "stands": False}
            await connection.execute(insert(tables.decision), [about | more] * times)
    assert (await page(bench))["models_flapping"][()] == 1


async def test_a_recording_that_cannot_go_on_is_shown(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = await make_bench(RECORD_READINGS=str(tmp_path / "r.jsonl"), RECORD_READINGS_MAX_BYTES=1000)
    bench.platform.add_model("a")
    assert (await page(bench))["recording_stopped"][()] == 0
    for number in range(40):
        bench.platform.call("a", number + 1)
        await bench.run(Job.RPS_CHECK)
    assert (await page(bench))["recording_stopped"][()] == 1


async def test_the_connections_in_use_are_shown(make_bench: MakeBench) -> None:
    bench = await make_bench()
    before = (await page(bench))["database_connections_in_use"][()]
    async with bench.engine.connect():
        assert (await page(bench))["database_connections_in_use"][()] == before + 1


async def test_an_event_that_waits_for_its_next_attempt_has_its_whole_age(make_bench: MakeBench) -> None:
    bench = await make_bench()
    assert (await page(bench))["outbox_oldest_age_seconds"][()] == 0
    async with bench.engine.begin() as connection:
        now = (await connection.execute(select(func.now()))).scalar_one()  # no test freezes the database's clock
        for minutes, published_at in ((2, None), (7, None), (30, now)):
            event = {
                "message_id": uuid4(),
                "stage": "warning",
                "routing_key": "reservation.no_use",
                "body": {"occurred_at": time_view(now - minutes * MINUTE)},
                "attempts": 5,
                "next_attempt_at": now + 5 * MINUTE,
                "published_at": published_at,
            }
            await connection.execute(insert(tables.outbox).values(event))
    found = await page(bench)
    assert found["events_pending"][()] == 2
    assert 7 * 60 <= found["outbox_oldest_age_seconds"][()] < 7 * 60 + 10


async def test_a_page_that_was_taken_out_of_the_settings_has_no_age(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await bench.run(Job.RPS_CHECK)
    gone = {"target": "http://gone:9100/metrics", "first_read_at": START, "read_at": START, "rate": 0.0}
    async with bench.engine.begin() as connection:
        await connection.execute(insert(tables.target).values(gone))
    configured = set(bench.settings.entrypoint_metrics_urls)
    assert set((await page(bench))["reading_age_seconds"]) == {(url,) for url in configured}
    assert {one["target"] for one in (await got(bench, "/status")).json()["targets"]} == configured


async def test_a_page_that_was_never_read_grows_old_from_the_start_on(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    never = f"http://127.0.0.1:{free_port()}/metrics"
    bench = await make_bench(ENTRYPOINT_METRICS_URLS=never)
    await bench.run(Job.RPS_CHECK)
    assert (await page(bench))["reading_age_seconds"] == {(never,): 0}
    time.tick(301)
    assert (await page(bench))["reading_age_seconds"] == {(never,): 301}


async def test_intervals_in_which_there_was_no_event_to_send_are_not_missed(make_bench: MakeBench) -> None:
    bench = await make_bench()
    event = {"message_id": uuid4(), "stage": "started", "routing_key": "no.queue", "body": {}}
    async with bench.engine.begin() as connection:
        await connection.execute(update(tables.job).values(next_due_at=func.now() - timedelta(hours=1)))
        await connection.execute(insert(tables.outbox).values(event))
    for job in (Job.EVENT_DISPATCH, Job.SAGA_POLL):
        await bench.scheduler.tick(job)
        assert bench.count("job_runs_total", job=job, outcome="completed") == 1
    assert bench.count("job_missed_total", job="event_dispatch") == 0
    assert bench.count("job_missed_total", job="saga_poll") > 0
