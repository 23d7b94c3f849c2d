"""Replicas that start before their servers do, and outlive them: real processes, real servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Literal
from uuid import uuid4

import aio_pika
import httpx
import pytest
from aio_pika.exceptions import DeliveryError
from sqlalchemy import func, select

from dev.fake_platform.platform import Platform
from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.app import wait_for_database
from limiter.db import tables
from limiter.db.engine import create_engine
from limiter.domain.job import Job
from limiter.runner.job_table import JobTable
from tests.bench import environment
from tests.conftest import MakeBench
from tests.replicas import FAST, Replica, replicas

OK = dict.fromkeys(("database", "rabbitmq", "scheduler", "clock"), "ok")
# AMQP methods (class and number) as they stand in a frame: the first and the last thing a replica asks for.
EXCHANGE_DECLARE = b"\x00\x28\x00\x0a"
BASIC_CANCEL = b"\x00\x3c\x00\x1e"


@pytest.fixture
def variables(services: Services, schema: str, platform: Platform) -> Iterator[dict[str, str]]:
    """A replica's environment; however the test leaves RabbitMQ, the next has one that runs."""
    yield environment(services, schema, platform, **FAST, RABBITMQ_TIMEOUT_SECONDS=1)
    services.rabbitmq.start()


async def answers(services: Services, variables: dict[str, str]) -> None:
    """Have the replica run a job manually, once its queue is there, and wait until it has."""
    async with await aio_pika.connect(services.rabbitmq_url) as connection, asyncio.timeout(60):
        channel = await connection.channel(on_return_raises=True)
        replies = await channel.declare_queue(exclusive=True)
        body = json.dumps({"command": "run_job", "job": "saga_poll"}).encode()
        message = aio_pika.Message(body, reply_to=replies.name, correlation_id=uuid4().hex)
        outcome = "busy"
        while outcome == "busy":  # on a slow machine its own run may take as long as the command waits for the lock
            try:
                await channel.default_exchange.publish(message, variables["CONTROL_QUEUE"])
            except DeliveryError:  # connected, and so ready, but its queues are not declared yet
                await asyncio.sleep(0.05)
                continue
            async with replies.iterator() as arrived:
                answer = await anext(aiter(arrived))
                await answer.ack()
                outcome = json.loads(answer.body)["outcome"]
        assert outcome == "completed"


def only(dependency: str) -> Callable[[httpx.Response], bool]:
    """A condition for the readiness page: this dependency is unavailable, and no other."""

    def alone(answer: httpx.Response) -> bool:
        states = answer.json()["dependencies"]
        unavailable = str(states[dependency]).startswith("unavailable")
        return answer.status_code == 503 and unavailable and states | {dependency: "ok"} == OK

    return alone


def criticals(replica: Replica, reason: str) -> list[str]:
    return [str(line["message"]) for line in replica.lines() if line.get("reason") == reason]


async def two_runs(services: Services, schema: str) -> None:
    """Wait until a job completed twice by the scheduler."""
    run = tables.job_run
    ended = select(func.count()).where(run.c.job == Job.RPS_CHECK, run.c.state == "completed")
    engine = create_engine(services.database_url, schema, 1, 10)
    async with asyncio.timeout(20), engine.connect() as connection:
        while (await connection.scalar(ended) or 0) < 2:
            await connection.rollback()
            await asyncio.sleep(0.05)
    await engine.dispose()


@pytest.mark.waits(12)
async def test_without_rabbitmq_the_jobs_run_and_it_is_joined_when_it_comes(
    services: Services, schema: str, variables: dict[str, str], tmp_path: Path
) -> None:
    await asyncio.to_thread(services.rabbitmq.kill)
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.until(only("rabbitmq"))
        assert (await replica.get("/health/liveness")).status_code == 200
        await two_runs(services, schema)
        page = (await replica.get("/metrics")).text
        assert 'critical_errors_total{reason="rabbitmq_unavailable"}' in page
        assert str(services.rabbitmq.port) in criticals(replica, "rabbitmq_unavailable")[0]
        await asyncio.to_thread(services.rabbitmq.start)
        await replica.ready()
        await answers(services, variables)
        assert await replica.end() == 0
        text = replica.log.read_text()
    assert "Traceback" not in text
    assert "guest:guest" not in text


@asynccontextmanager
async def breaking(port: int, at: bytes, times: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A way to RabbitMQ that breaks as soon as a client sends `at`, so many times; its port, and a list of breaks."""
    broken: list[bytes] = []

    async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, watched: bool) -> None:
        while data := await source.read(65_536):
            if watched and at in data and len(broken) < times:
                broken.append(data)
                break
            sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(forward(reader, back, True), forward(there, writer, False), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield server.sockets[0].getsockname()[1], broken
    finally:
        server.close()


@pytest.mark.parametrize("how", ["dead", "frozen"])
async def test_a_stop_is_clean_while_rabbitmq_is_waited_for(
    services: Services, variables: dict[str, str], tmp_path: Path, how: Literal["dead", "frozen"]
) -> None:
    nobody = {"RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/"}
    if how == "frozen":
        services.rabbitmq.freeze()
    try:
        async with replicas(1, variables | (nobody if how == "dead" else {}), tmp_path) as (replica,):
            await replica.until(only("rabbitmq"))
            assert await replica.end() == 0
            assert "Traceback" not in replica.log.read_text()
    finally:
        services.rabbitmq.thaw()


async def test_a_stop_is_clean_when_rabbitmq_has_just_frozen(
    services: Services, variables: dict[str, str], tmp_path: Path
) -> None:
    async with replicas(1, variables, tmp_path) as (replica,):
        await answers(services, variables)
        services.rabbitmq.freeze()
        try:
            assert await replica.end() == 0
        finally:
            services.rabbitmq.thaw()
        assert "Traceback" not in replica.log.read_text()
        assert "broker_left" in {line.get("event") for line in replica.lines()}


async def test_a_stop_is_clean_when_the_connection_breaks_during_it(
    services: Services, variables: dict[str, str], tmp_path: Path
) -> None:
    async with breaking(services.rabbitmq.port, BASIC_CANCEL, times=1) as (port, broken):
        url = {"RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{port}/"}
        async with replicas(1, variables | url, tmp_path) as (replica,):
            await answers(services, variables)
            assert await replica.end() == 0
            assert len(broken) == 1
            assert "Traceback" not in replica.log.read_text()


async def test_a_connection_lost_between_connecting_and_declaring_is_made_again(
    services: Services, variables: dict[str, str], tmp_path: Path
) -> None:
    async with breaking(services.rabbitmq.port, EXCHANGE_DECLARE, times=3) as (port, broken):
        url = {"RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{port}/"}
        async with replicas(1, variables | url, tmp_path) as (replica,):
            await answers(services, variables)
            assert await replica.end() == 0
            assert len(broken) == 3
            assert criticals(replica, "rabbitmq_unavailable")
            assert "Traceback" not in replica.log.read_text()


async def test_a_queue_declared_otherwise_by_somebody_is_named_and_waited_for(
    services: Services, schema: str, variables: dict[str, str], tmp_path: Path
) -> None:
    name = variables["DEPLOYED_QUEUE"]
    async with await aio_pika.connect(services.rabbitmq_url) as connection:
        somebodys = await (await connection.channel()).declare_queue(name, durable=True)
        async with replicas(1, variables, tmp_path) as (replica,):
            await two_runs(services, schema)
            assert "PRECONDITION_FAILED" in criticals(replica, "rabbitmq_refused")[0]
            assert all(f"queue '{name}'" in line for line in criticals(replica, "rabbitmq_refused"))
            await somebodys.delete()
            await answers(services, variables)
            assert await replica.end() == 0
            assert "Traceback" not in replica.log.read_text()


async def test_addresses_are_learned_again_after_somebody_has_deleted_the_exchange(
    services: Services, schema: str, variables: dict[str, str], tmp_path: Path
) -> None:
    name, key = variables["NOTIFIER_EXCHANGE"], "models.deployed.successfully"
    user = {"user_id": str(uuid4()), "user_name": "ann", "user_email": "ann@example.org"}
    engine = create_engine(services.database_url, schema, 1, 10)
    async with await aio_pika.connect(services.rabbitmq_url) as connection, asyncio.timeout(60):
        channel = await connection.channel()
        async with replicas(1, variables | {"RABBITMQ_DECLARE_SECONDS": "0.2"}, tmp_path) as (replica,):
            await answers(services, variables)
            await channel.exchange_delete(name)
            exchange = await channel.declare_exchange(name, "topic", durable=True)
            while True:
                await exchange.publish(aio_pika.Message(json.dumps(user).encode()), key, mandatory=False)
                async with engine.connect() as reading:
                    if await reading.scalar(select(tables.contact.c.email)) is not None:
                        break
                await asyncio.sleep(0.05)
            assert await replica.end() == 0
            assert "Traceback" not in replica.log.read_text()
    await engine.dispose()


@pytest.mark.waits(10)
async def test_a_killed_rabbitmq_is_joined_again(services: Services, variables: dict[str, str], tmp_path: Path) -> None:
    async with replicas(1, variables, tmp_path) as (replica,):
        await answers(services, variables)
        await replica.ready()
        await asyncio.to_thread(services.rabbitmq.kill)
        await replica.until(only("rabbitmq"))
        assert criticals(replica, "rabbitmq_unavailable")
        await asyncio.to_thread(services.rabbitmq.start)
        await replica.ready()
        await answers(services, variables)
        assert len([line for line in replica.lines() if line.get("event") == "broker_connected"]) == 2
        said = criticals(replica, "rabbitmq_unavailable")
        assert len(said) == len(set(said))  # a line for each way in which it is away, and not for each attempt
        assert await replica.end() == 0
        assert criticals(replica, "rabbitmq_unavailable") == said  # a stop is no loss


@pytest.mark.waits(10)
@pytest.mark.parametrize("absent", ["postgres", "pgbouncer"])
async def test_a_database_that_comes_later_is_joined(
    services: Services, schema: str, platform: Platform, tmp_path: Path, absent: Literal["postgres", "pgbouncer"]
) -> None:
    server = services.postgres if absent == "postgres" else services.pgbouncer
    await asyncio.to_thread(server.stop, "immediate")
    try:
        async with replicas(1, environment(services, schema, platform, **FAST), tmp_path) as (replica,):
            waiting = await replica.until(lambda answer: answer.status_code == 503)
            assert waiting.json()["dependencies"]["database"].startswith("unavailable")
            assert (await replica.get("/health/liveness")).status_code == 200
            await replica.until(lambda _: bool(criticals(replica, "database_unavailable")))
            await asyncio.to_thread(server.start)
            await replica.ready()
            await two_runs(services, schema)
            assert await replica.end() == 0
    finally:
        await asyncio.to_thread(server.start)


async def test_health_and_metrics_answer_within_a_second_while_pgbouncer_hangs_and_say_what_is_missing(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    # The default of 0.8 s leaves a fifth of the second for the answer itself; a machine that runs tests may need more.
    variables = environment(services, schema, platform, **FAST, HEALTH_TIMEOUT_SECONDS=0.3)
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.ready()
        services.pgbouncer.freeze()
        try:
            for _ in range(3):
                began = monotonic()
                health, page = await asyncio.gather(replica.get("/health/readiness"), replica.get("/metrics"))
                assert monotonic() - began <= 1.0
                assert health.status_code == 503
                assert health.json()["dependencies"]["database"] == "unavailable: no answer in time"
                assert "rps_limiter_models_observed NaN" in page.text
                assert "rps_limiter_ready 0.0" in page.text
        finally:
            services.pgbouncer.thaw()
        await replica.ready()
        page = await replica.until(lambda page: "rps_limiter_models_observed 0.0" in page.text, "/metrics")
        assert "rps_limiter_ready 1.0" in page.text


async def test_a_database_lost_in_the_middle_of_the_start_is_waited_for(
    services: Services, make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, register = await make_bench(), JobTable.register
    tries: list[JobTable] = []

    async def unlucky(table: JobTable) -> None:
        tries.append(table)
        if len(tries) == 1:
            await asyncio.to_thread(services.pgbouncer.kill)
        try:
            await register(table)
        finally:
            await asyncio.to_thread(services.pgbouncer.start)

    monkeypatch.setattr(JobTable, "register", unlucky)
    await wait_for_database(bench.settings, bench.replica)
    assert len(tries) == 2
    assert bench.criticals() == {"database_unavailable": 1}
