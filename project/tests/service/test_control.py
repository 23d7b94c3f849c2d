"""Control messages and announcements through a real RabbitMQ."""

import asyncio
import json
import struct
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pamqp.encode
import pytest
from loguru import logger
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from limiter.db import contacts, tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.contracts import check_reply


async def ask(bench: Bench, body: object, user_id: str | None = None) -> dict[str, Any]:
    """Send a control message as an operator does, and wait for the one answer; the broker checks the `user_id`."""
    answers = await bench.channel.declare_queue(exclusive=True)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    correlation = uuid4().hex
    message = aio_pika.Message(raw, reply_to=answers.name, correlation_id=correlation, user_id=user_id)
    await bench.channel.default_exchange.publish(message, bench.settings.control_queue)
    async with asyncio.timeout(10):
        async with answers.iterator() as arrived:
            async for answer in arrived:
                await answer.ack()
                assert answer.correlation_id == correlation
                assert await answers.get(fail=False) is None
                reply = dict(json.loads(answer.body))
                check_reply(reply)
                return reply
    raise AssertionError("no answer")


async def dead_letters(bench: Bench, queue: str, at_least: int = 1) -> list[bytes]:
    """The bodies in a queue's dead-letter queue, once there are so many."""
    dead = await bench.channel.get_queue(f"{queue}.dead")
    found: list[bytes] = []
    async with asyncio.timeout(5):
        while len(found) < at_least:
            message = await dead.get(fail=False)
            if message is None:
                await asyncio.sleep(0.05)
            else:
                await message.ack()
                found.append(message.body)
    assert await dead.get(fail=False) is None
    return found


async def test_run_job_runs_at_once_and_answers_with_its_run(make_bench: MakeBench) -> None:
    bench = await make_bench()
    answer = await ask(bench, {"command": "run_job", "job": "rps_check", "request_id": "r1"})
    runs = await bench.rows(tables.job_run)
    assert [(run.job, run.state, run.cause) for run in runs] == [("rps_check", "completed", "manual")]
    assert answer == {
        "request_id": "r1",
        "command": "run_job",
        "job": "rps_check",
        "outcome": "completed",
        "run_id": f"rps_check:{runs[0].epoch}",
        "detail": None,
    }


@pytest.mark.parametrize("job", Job)
async def test_every_job_can_be_run_manually(make_bench: MakeBench, job: Job) -> None:
    bench = await make_bench()
    answer = await ask(bench, {"command": "run_job", "job": job})
    assert (answer["outcome"], answer["request_id"]) == ("completed", None)


async def test_a_run_that_fails_says_why(make_bench: MakeBench) -> None:
    bench = await make_bench(MODEL_REGISTRY_URL="http://127.0.0.1:9")
    answer = await ask(bench, {"command": "run_job", "job": "idle_warning"})
    assert answer["outcome"] == "failed"
    assert "registry" in answer["detail"]


async def test_pause_stops_the_schedule_but_not_a_manual_run_and_resume_undoes_it(make_bench: MakeBench) -> None:
    bench = await make_bench()
    assert (await ask(bench, {"command": "pause_job", "job": "saga_poll"}))["outcome"] == "paused"
    await bench.scheduler.tick(Job.SAGA_POLL)
    assert await bench.rows(tables.job_run) == []
    assert (await ask(bench, {"command": "run_job", "job": "saga_poll"}))["outcome"] == "completed"
    assert (await ask(bench, {"command": "resume_job", "job": "saga_poll"}))["outcome"] == "resumed"
    await bench.scheduler.tick(Job.SAGA_POLL)
    assert [run.cause for run in await bench.rows(tables.job_run)] == ["manual", "schedule"]


async def test_busy_when_another_run_has_the_lock_throughout(make_bench: MakeBench) -> None:
    bench, other = await make_bench(), await make_bench()
    async with other.replica.lock.acquire(Job.RPS_CHECK) as guard:
        assert guard is not None
        answer = await ask(bench, {"command": "run_job", "job": "rps_check", "request_id": "b"})
    assert (answer["outcome"], answer["run_id"]) == ("busy", None)


async def test_explain_tells_what_stands_for_a_model_and_why(make_bench: MakeBench) -> None:
    bench = await make_bench()
    model = bench.platform.add_model("Sber/GigaChat-Max-V2")
    bench.platform.call(model.name)
    await bench.run(Job.RPS_CHECK)
    answer = await ask(bench, {"command": "explain", "model": model.name, "request_id": "e"})
    assert (answer["outcome"], answer["command"], answer["request_id"]) == ("completed", "explain", "e")
    assert f"model {model.id}: hold (within_target): 0.0 RPS per replica on 1" in answer["detail"]


async def test_explain_of_a_model_that_was_never_observed_fails_and_names_it(make_bench: MakeBench) -> None:
    answer = await ask(await make_bench(), {"command": "explain", "model": "GigaChad"})
    assert (answer["outcome"], answer["detail"]) == (
        "failed",
        "nothing was ever decided about a model named 'GigaChad'",
    )


MALFORMED = {
    "run without a job": b'{"command": "run_job", "request_id": "m"}',
    "run of a model": b'{"command": "run_job", "job": "rps_check", "model": "m", "request_id": "m"}',
    "explain without a model": b'{"command": "explain", "request_id": "m"}',
    "explain of a job": b'{"command": "explain", "model": "m", "job": "rps_check", "request_id": "m"}',
    "no json": b"{run",
    "empty": b"",
    "another shape": b"[1, 2]",
    "unknown job": b'{"command": "run_job", "job": "make_coffee", "request_id": "m"}',
    "unknown command": b'{"command": "stop", "job": "rps_check", "request_id": "m"}',
    "unknown field": b'{"command": "run_job", "job": "rps_check", "force": true, "request_id": "m"}',
    "not utf-8": b"\xff\xfe\x00",
    "deeply nested": b"[" * 5000,
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_message_is_rejected_once_and_kept_in_the_dead_letter_queue(
    make_bench: MakeBench, case: str
) -> None:
    bench = await make_bench()
    answer = await ask(bench, MALFORMED[case])
    assert answer["outcome"] == "rejected"
    assert answer["detail"]
    assert answer["request_id"] == ("m" if b'"m"' in MALFORMED[case] else None)
    assert await dead_letters(bench, bench.settings.control_queue) == [MALFORMED[case]]
    assert (await ask(bench, {"command": "run_job", "job": "saga_poll"}))["outcome"] == "completed"


MICROSECONDS = struct.pack(">Q", 1_700_000_000_000_000)  # where AMQP wants seconds
ODD_PROPERTIES: dict[str, dict[str, Any]] = {
    "timestamp": {"timestamp": START},
    "timestamp in a header": {"headers": {"sent": START, "and": {"then": START}}},
    "text that is none": {"type": "odd"},
    "name of a header that is none": {"headers": {"odd": 1}},
}


@pytest.fixture
def odd_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published from here on has timestamps in microseconds, and bytes that are no UTF-8 for the text `odd`."""
    text = pamqp.encode.short_string

    def short_string(value: str) -> bytes:
        return b"\x03\xff\xfe\xfd" if value == "odd" else text(value)

    for type_, name, odd in (
        ("timestamp", "timestamp", lambda value: MICROSECONDS),
        ("shortstr", "short_string", short_string),
    ):
        monkeypatch.setitem(pamqp.encode.METHODS, type_, odd)
        monkeypatch.setattr(pamqp.encode, name, odd)


@pytest.mark.parametrize("case", ODD_PROPERTIES)
async def test_a_message_whose_properties_cannot_be_read_is_carried_out_and_costs_no_connection(
    make_bench: MakeBench, odd_properties: None, case: str
) -> None:
    bench = await make_bench()
    message = aio_pika.Message(b'{"command": "run_job", "job": "saga_poll"}', **ODD_PROPERTIES[case])
    await bench.channel.default_exchange.publish(message, bench.settings.control_queue)
    await bench.until(tables.job_run, lambda runs: [run.state for run in runs] == ["completed"])
    assert (await ask(bench, {"command": "status"}))["outcome"] == "completed"
    assert bench.criticals() == {}


async def test_a_long_request_id_comes_back_whole_and_does_not_fill_the_log(make_bench: MakeBench) -> None:
    bench = await make_bench()
    logged: list[str] = []
    handle = logger.add(lambda message: logged.append(message.record["extra"].get("request_id", "")), level="DEBUG")
    answer = await ask(bench, {"command": "run_job", "job": "saga_poll", "request_id": "x" * 100_000})
    logger.remove(handle)
    assert answer["request_id"] == "x" * 100_000
    assert max(map(len, logged)) == 500


async def test_without_reply_to_the_command_is_carried_out_in_silence(make_bench: MakeBench) -> None:
    bench = await make_bench()
    message = aio_pika.Message(b'{"command": "run_job", "job": "saga_poll"}')
    await bench.channel.default_exchange.publish(message, bench.settings.control_queue)
    await bench.until(tables.job_run, lambda runs: [run.state for run in runs] == ["completed"])


async def announce(bench: Bench, body: object) -> None:
    exchange = await bench.channel.get_exchange(bench.settings.notifier_exchange)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    await exchange.publish(aio_pika.Message(raw), bench.settings.notifier_deployed_routing_key)


def deployed(user: UUID, email: str = "ann@example.org") -> dict[str, Any]:
    return {
        "user_id": str(user),
        "user_name": "ann",
        "user_email": email,
        "model_ids": [str(UUID(int=7))],
        "model_names": ["a"],
        "reservation_ids": ["r-1"],
    }


async def test_an_address_is_learned_from_the_announcement_and_renewed_by_a_later_one(make_bench: MakeBench) -> None:
    bench = await make_bench()
    user = uuid4()
    await announce(bench, deployed(user))
    await announce(bench, deployed(user, "new@example.org"))
    await bench.until(tables.contact, lambda rows: [row.email for row in rows] == ["new@example.org"])
    assert [row.reservation_id for row in await bench.rows(tables.reminder)] == ["r-1"]


@pytest.mark.parametrize("ids", [[], ["Qwen/Qwen3-32b"], ["m-7", str(UUID(int=7)), ""]])
async def test_an_address_is_learned_whatever_the_model_ids_and_only_uuids_are_noted(
    make_bench: MakeBench, ids: list[str]
) -> None:
    bench = await make_bench()
    await announce(bench, deployed(uuid4()) | {"model_ids": ids})
    await bench.until(tables.contact, lambda rows: len(rows) == 1)
    assert [row.model_id.int for row in await bench.rows(tables.reminder)] == [7] * (len(ids) == 3)


async def test_an_announcement_of_very_many_starts_is_learned(make_bench: MakeBench) -> None:
    bench = await make_bench()
    many = {"model_ids": [str(UUID(int=n)) for n in range(1000)], "reservation_ids": [f"r{n}" for n in range(1000)]}
    await announce(bench, deployed(uuid4()) | many)
    await bench.until(tables.contact, lambda rows: len(rows) == 1)
    assert len(await bench.rows(tables.reminder)) == 10_000


POISONED: dict[str, Any] = {
    "a model id that is no text": {"model_ids": [7]},
    "a model id with NUL": {"model_ids": ["a\0b"]},
    "too many model ids": {"model_ids": ["m"] * 1001},
    "too long an id": {"reservation_ids": ["r" * 501]},
}


@pytest.mark.parametrize("case", POISONED)
async def test_an_announcement_that_cannot_be_stored_is_kept_in_the_dead_letter_queue(
    make_bench: MakeBench, case: str
) -> None:
    bench = await make_bench()
    await announce(bench, deployed(uuid4()) | POISONED[case])
    assert len(await dead_letters(bench, bench.settings.deployed_queue)) == 1
    assert await bench.rows(tables.contact) == []


async def test_announcements_that_come_together_are_learned_one_after_the_other(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, user, learn = await make_bench(), uuid4(), contacts.learn
    began: list[str] = []
    ended: list[str] = []

    async def slow(engine: AsyncEngine, user_id: UUID, name: str, email: str, started: Any) -> None:
        assert began == ended
        began.append(email)
        await asyncio.sleep(0.1)  # a database that takes its time
        await learn(engine, user_id, name, email, started)
        ended.append(email)
        if len(ended) == len(addresses):
            all_learned.set()

    all_learned = asyncio.Event()
    monkeypatch.setattr(contacts, "learn", slow)
    addresses = [f"{number}@example.org" for number in range(4)]
    for address in addresses:
        await announce(bench, deployed(user, address))
    await asyncio.wait_for(all_learned.wait(), 10)
    assert ended == addresses
    assert [row.email for row in await bench.rows(tables.contact)] == addresses[-1:]


@pytest.mark.parametrize("address", [None, "ann\x1b[2J@example.org", "ann\x7f@example.org"], ids=["none", "esc", "del"])
async def test_a_poisoned_announcement_goes_to_the_dead_letter_queue_and_the_next_is_heard(
    make_bench: MakeBench, address: str | None
) -> None:
    bench = await make_bench()
    poison = b'{"user_id": 7}' if address is None else json.dumps(deployed(uuid4(), address)).encode()
    await announce(bench, poison)
    assert await dead_letters(bench, bench.settings.deployed_queue) == [poison]
    assert bench.criticals() == {"announcement_rejected": 1}
    await announce(bench, deployed(uuid4()))
    await bench.until(tables.contact, lambda rows: len(rows) == 1)


@pytest.mark.parametrize("command", [{"command": "status"}, {"command": "explain", "model": "m"}])
async def test_however_many_ask_the_jobs_keep_their_connections(make_bench: MakeBench, command: dict[str, str]) -> None:
    bench = await make_bench()
    taken: list[int] = []
    pool = bench.engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    event.listen(pool, "checkout", lambda *_: taken.append(pool.checkedout()))
    await asyncio.gather(*(ask(bench, command) for _ in Job))
    assert taken
    assert max(taken) == 1
