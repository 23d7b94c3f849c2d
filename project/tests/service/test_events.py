"""Events as the notifier reads them, and the way they get there."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory
from loguru import logger
from sqlalchemy import func

from limiter.db import tables
from limiter.domain.job import Job
from limiter.logs.lines import json_line
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.contracts import DOCUMENT
from tests.service.test_control import announce, deployed

ANN = str(UUID(int=1))
N, Y = timedelta(minutes=60), timedelta(minutes=15)
SWEEP = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)


async def booked(make_bench: MakeBench, **settings: object) -> tuple[Bench, str, str]:
    """A bench with one booked, unused model; its model's and reservation's ids."""
    bench = await make_bench(**settings)
    model = bench.platform.add_model("Google/Medgemma-27b-it")
    bench.platform.add_model("used")
    bench.platform.call("used")
    slots = [(START, START + 2 * N), (START + 2 * N, START + 3 * N)]
    reservation = bench.platform.add_reservation(ANN, "ann", model.name, slots=slots)
    await bench.run(Job.RPS_CHECK)
    return bench, str(model.id), reservation.id


async def until_sent(bench: Bench) -> None:
    """Dispatch until nothing waits: when an event is tried again, the database's clock says."""
    async with asyncio.timeout(10):
        while any(row.published_at is None for row in await bench.rows(tables.outbox)):
            await bench.run(Job.EVENT_DISPATCH)


async def test_the_warning_and_the_final_event_carry_every_field(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, model_id, reservation_id = await booked(make_bench)
    current, following = bench.platform.reservations[0].slots
    named = {
        "reservation_id": reservation_id,
        "slot_id": following.id,
        "start": "2026-03-02T12:00:00+00:00",
        "end": "2026-03-02T13:00:00+00:00",
    }
    time.move_to(START + N - Y)
    await bench.run(*SWEEP)
    (warning,) = await bench.events()
    message_id = warning.pop("message_id")
    assert UUID(message_id)
    assert warning == {
        "event_version": "1.0",
        "event_type": "reservation.no_use",
        "occurred_at": "2026-03-02T10:45:00+00:00",
        "user": {"id": ANN, "email": "ann@example.org"},
        "reservation": {
            "id": reservation_id,
            "model_id": model_id,
            "model_name": "Google/Medgemma-27b-it",
            "slot": {"id": current.id, "start": "2026-03-02T10:00:00+00:00", "end": "2026-03-02T12:00:00+00:00"},
            "stage": "warning",
            "idle_since": "2026-03-02T10:00:00+00:00",
            "idle_seconds": 2700,
            "cancel_not_before": "2026-03-02T11:00:00+00:00",
            "slots_at_risk": [named],
            "closing_reason": None,
            "cancelled_slots": [],
            "failed_slots": [],
            "uninstalled": False,
        },
    }
    time.move_to(START + N)
    await bench.run(*SWEEP)
    (final,) = await bench.events()
    assert final["message_id"] != message_id
    done = {"stage": "cancelled", "idle_seconds": 3600, "cancelled_slots": [named]}
    assert final["reservation"] == warning["reservation"] | done


async def test_events_are_persistent_json_with_a_stable_message_id(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, _, _ = await booked(make_bench)
    time.move_to(START + N - Y)
    await bench.run(*SWEEP)
    message = await bench.inbox.get()
    await message.ack()
    assert (message.delivery_mode, message.content_type) == (2, "application/json")
    said = DOCUMENT["operations"]["NoUse"]["bindings"]["amqp"]
    assert (message.delivery_mode, [message.routing_key]) == (said["deliveryMode"], said["cc"])
    assert message.content_type == DOCUMENT["defaultContentType"]
    (row,) = await bench.rows(tables.outbox)
    assert message.message_id == str(row.message_id)


async def test_the_log_says_of_which_event_and_what_came_of_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    """In the very line that an operator reads: an id must not take the place of its text."""
    bench, _, _ = await booked(make_bench)
    lines: list[dict[str, str]] = []
    sink = logger.add(lambda message: lines.append(json.loads(json_line(message))), level="INFO")
    key, exchange = bench.settings.notifier_no_use_routing_key, bench.settings.notifier_exchange
    time.move_to(START + N - Y)
    try:
        await bench.inbox.unbind(exchange, key)
        await bench.run(*SWEEP)
        await bench.inbox.bind(exchange, key)
        await until_sent(bench)
    finally:
        logger.remove(sink)
    (event,) = await bench.rows(tables.outbox)
    logged = {line["event"]: line for line in lines if line.get("message_id") == str(event.message_id)}
    assert logged["critical"]["message"].startswith(f"event_unroutable: notifier: no queue is bound to '{key}'")
    assert logged["event_sent"]["message"] == "warning confirmed by the broker"
    assert logged["critical"]["spell"] == logged["event_sent"]["spell"] == str(event.spell_id)


async def test_a_full_queue_is_named_as_the_reason_and_the_event_goes_out_once_it_has_room(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, _, _ = await booked(make_bench)
    nothing: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    full = await bench.channel.declare_queue(exclusive=True, arguments=nothing)
    await full.bind(bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key)
    time.move_to(START + N - Y)
    await bench.run(*SWEEP)
    (waiting,) = await bench.rows(tables.outbox)
    refused = "notifier: RabbitMQ refused it: a queue that is bound to 'reservation.no_use' is full"
    assert waiting.error.startswith(refused)
    assert set(bench.criticals()) == {"event_unconfirmed"}
    await full.delete()
    await until_sent(bench)


async def test_a_warning_overtaken_by_use_before_it_was_sent_is_taken_back_in_silence(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, _, _ = await booked(make_bench)
    time.move_to(START + N - Y)
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    bench.platform.call("Google/Medgemma-27b-it")
    time.tick(timedelta(minutes=1))
    await bench.run(*SWEEP)
    assert await bench.events() == []
    assert [spell.state for spell in await bench.rows(tables.idle_spell)] == ["withdrawn"]


async def test_a_withdrawal_never_overtakes_its_warning(make_bench: MakeBench, time: FrozenDateTimeFactory) -> None:
    bench, _, _ = await booked(make_bench, EVENT_RETRY_FIRST_SECONDS=0.01, EVENT_RETRY_LONGEST_SECONDS=0.02)
    exchange, key = bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key
    await bench.inbox.unbind(exchange, key)
    time.move_to(START + N - Y)
    await bench.run(*SWEEP)
    bench.platform.call("Google/Medgemma-27b-it")
    time.tick(timedelta(minutes=1))
    await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    time.tick(N)
    await bench.inbox.bind(exchange, key)
    heard: list[dict[str, Any]] = []
    while len(heard) < 2:
        await bench.run(Job.EVENT_DISPATCH)
        heard += [event["reservation"] for event in await bench.events()]
    assert [one["stage"] for one in heard] == ["warning", "withdrawn"]
    assert datetime.fromisoformat(heard[0]["cancel_not_before"]) == START + 2 * N + timedelta(minutes=1)


async def test_a_warning_never_overtakes_the_withdrawal_of_the_one_before(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, _, _ = await booked(make_bench, EVENT_RETRY_FIRST_SECONDS=100, EVENT_RETRY_LONGEST_SECONDS=100)
    time.move_to(START + N - Y)
    await bench.run(*SWEEP)
    assert await bench.stages() == ["warning"]
    exchange, key = bench.settings.notifier_exchange, bench.settings.notifier_no_use_routing_key
    await bench.inbox.unbind(exchange, key)
    bench.platform.call("Google/Medgemma-27b-it")
    await bench.run(*SWEEP)  # the withdrawal comes back, and waits for its next attempt
    await bench.inbox.bind(exchange, key)
    time.tick(N - Y)
    bench.platform.call("used")
    await bench.run(*SWEEP)
    assert await bench.stages() == []
    async with bench.engine.begin() as connection:
        await connection.execute(tables.outbox.update().values(next_attempt_at=func.now()))
    await bench.run(Job.EVENT_DISPATCH)
    assert await bench.stages() == ["withdrawn", "warning"]


async def test_a_dry_run_decides_and_records_the_whole_timeline_and_does_nothing(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, _, _ = await booked(make_bench, DRY_RUN="true", UNINSTALL_ON_IDLE="true")
    for moment in (N - Y, N):
        time.move_to(START + moment)
        await bench.run(*SWEEP)
    assert [(spell.state, spell.dry_run) for spell in await bench.rows(tables.idle_spell)] == [("enforced", True)]
    assert [step.state for step in await bench.rows(tables.cancellation)] == ["done"]
    assert [event.stage for event in await bench.rows(tables.outbox)] == ["warning", "cancelled"]
    assert [command.state for command in await bench.rows(tables.command)] == ["dry_run"]
    assert await bench.events() == []
    assert bench.platform.deletions == []
    assert bench.platform.commands == []


async def test_a_warning_that_waits_when_a_dry_run_begins_is_not_sent_but_taken_back(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    real, _, _ = await booked(make_bench)
    time.move_to(START + N - Y)
    await real.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    dry = await make_bench(DRY_RUN="true")
    await dry.run(Job.EVENT_DISPATCH)
    assert await dry.events() == []
    (waiting,) = await dry.rows(tables.outbox)
    assert (waiting.published_at, waiting.attempts, waiting.error) == (None, 0, "held back: mode_changed")
    await dry.run(*SWEEP)
    assert await dry.events() == []
    assert await dry.rows(tables.outbox) == []
    assert [(spell.state, spell.reason) for spell in await dry.rows(tables.idle_spell)] == [
        ("withdrawn", "mode_changed")
    ]


async def test_a_dry_run_closes_what_users_were_told_before_and_reminds_nobody(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    real, _, _ = await booked(make_bench, DEPLOYED_REMINDER_ENABLED="true")
    time.move_to(START + N - Y)
    await real.run(Job.RPS_CHECK, Job.IDLE_WARNING)
    async with real.engine.begin() as connection:  # only the reminder waits
        stage = tables.outbox.c.stage
        await connection.execute(tables.outbox.update().where(stage == "warning").values(published_at=func.now()))
        await connection.execute(tables.idle_spell.update().values(state="warned", delivered_at=START + N - Y))
    dry = await make_bench(DRY_RUN="true")
    await dry.inbox.bind(dry.settings.notifier_exchange, dry.settings.notifier_deployed_routing_key)
    await dry.run(*SWEEP)
    assert await dry.stages() == ["withdrawn"]
    assert {event.stage: event.error for event in await dry.rows(tables.outbox)} == {
        "warning": None,
        "started": "dry run: not sent",
        "withdrawn": None,
    }


async def test_a_spell_of_a_dry_run_never_leads_to_a_real_cancelling(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    dry, _, _ = await booked(make_bench, DRY_RUN="true")
    time.move_to(START + N - Y)
    await dry.run(*SWEEP)
    real = await make_bench()
    time.move_to(START + N)
    await real.run(*SWEEP)
    assert real.platform.deletions == []
    time.tick(timedelta(minutes=1))
    await real.run(*SWEEP)
    assert real.platform.deletions == []
    assert [spell.reason for spell in await real.rows(tables.idle_spell)] == ["mode_changed"]


async def reminding(make_bench: MakeBench) -> tuple[Bench, str, str]:
    """The same with reminders, which the inbox gets too."""
    bench, model_id, reservation_id = await booked(make_bench, DEPLOYED_REMINDER_ENABLED="true")
    await bench.inbox.bind(bench.settings.notifier_exchange, bench.settings.notifier_deployed_routing_key)
    return bench, model_id, reservation_id


async def test_reminds_of_a_started_reservation_once_if_nobody_else_did(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    bench, model_id, reservation_id = await reminding(make_bench)
    time.tick(timedelta(seconds=59))
    await bench.run(*SWEEP)
    assert await bench.events() == []
    time.tick(timedelta(seconds=1))
    await bench.run(*SWEEP)
    (reminder,) = await bench.events()
    assert reminder | {"message_id": None} == {
        "message_id": None,
        "event_version": "1.0",
        "event_type": "models.deployed.successfully",
        "occurred_at": "2026-03-02T10:01:00+00:00",
        "user_id": ANN,
        "user_name": "ann",
        "user_email": "ann@example.org",
        "model_ids": [model_id],
        "model_names": ["Google/Medgemma-27b-it"],
        "reservation_ids": [reservation_id],
    }
    time.tick(timedelta(minutes=1))
    await bench.run(*SWEEP)
    assert await bench.events() == []


async def test_the_address_that_a_reminder_of_ours_went_to_is_not_learned_from_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory
) -> None:
    """Else that of a template that was wrong would outlast its correction, and an old one replace a newer one."""
    bench, _, _ = await reminding(make_bench)
    time.tick(timedelta(minutes=1))
    await bench.run(*SWEEP)
    assert [event["user_email"] for event in await bench.events()] == ["ann@example.org"]
    await announce(bench, deployed(UUID(int=2)))  # read after it
    await bench.until(tables.contact, lambda rows: UUID(int=2) in [row.user_id for row in rows])
    assert len(await bench.rows(tables.contact)) == 1


@pytest.mark.parametrize("first", ["model", "slot"])
async def test_a_reminder_leaves_others_their_time_from_when_both_model_and_slot_run(
    make_bench: MakeBench, time: FrozenDateTimeFactory, first: str
) -> None:
    bench = await make_bench(DEPLOYED_REMINDER_ENABLED="true")
    await bench.inbox.bind(bench.settings.notifier_exchange, bench.settings.notifier_deployed_routing_key)
    begins = START if first == "slot" else START + timedelta(minutes=10)
    bench.platform.add_reservation(ANN, "ann", "m", slots=[(begins, START + N)])
    for minutes in (0, 10):
        time.move_to(START + timedelta(minutes=minutes))
        if minutes == (0 if first == "model" else 10):
            bench.platform.add_model("m")
        await bench.run(Job.RPS_CHECK)
    time.tick(timedelta(seconds=59))
    await bench.run(*SWEEP)
    assert await bench.stages() == []
    time.tick(timedelta(seconds=1))
    await bench.run(*SWEEP)
    assert [event["event_type"] for event in await bench.events()] == ["models.deployed.successfully"]
