"""The private servers: what the demo, the tests and the fault suites rely on them to do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from dev.servers.postgres import Postgres
from dev.servers.private_server import PrivateServer, ServerFailed
from dev.servers.processes import STANDARD_PORTS, Process, ServerMissing, find_program, is_running, process_tree
from dev.servers.services import Services

OWNER = """
import threading, time
from dev.servers.services import Services

services = Services()
starter = threading.Thread(target=services.postgres.start)
starter.start()
starter.join()
print(services.directory, services.postgres.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def unstarted() -> Iterator[Services]:
    services = Services()
    yield services
    services.stop()


@asynccontextmanager
async def postgres_client(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


def all_processes(services: Services) -> list[Process]:
    servers: tuple[PrivateServer, ...] = (services.postgres, services.pgbouncer, services.rabbitmq)
    return [process for server in servers for process in server.processes()]


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:  # a second look could meet a later state
        time.sleep(0.02)
    return met


async def test_all_three_answer_through_their_urls(services: Services) -> None:
    for url in (services.database_url, services.direct_database_url):
        async with postgres_client(url) as client:
            assert await client.fetchval("SELECT 6 * 7") == 42
    async with await aio_pika.connect(services.rabbitmq_url) as broker, broker.channel() as channel:
        await channel.declare_queue(exclusive=True)


def test_no_port_is_a_standard_one(services: Services) -> None:
    rabbitmq = services.rabbitmq
    ports = {services.postgres.port, services.pgbouncer.port}
    ports |= {rabbitmq.port, rabbitmq.distribution_port, rabbitmq.epmd.port}
    assert len(ports) == 5
    assert not ports & STANDARD_PORTS


async def test_idle_clients_of_pgbouncer_share_a_backend_and_open_transactions_do_not(services: Services) -> None:
    url, backend = services.database_url, "SELECT pg_backend_pid()"
    async with postgres_client(url) as one, postgres_client(url) as other:
        assert await one.fetchval(backend) == await other.fetchval(backend)
        async with one.transaction(), other.transaction():
            assert await one.fetchval(backend) != await other.fetchval(backend)


def test_the_pgbouncer_console_shows_transaction_pooling(services: Services) -> None:
    config = {row["key"]: row["value"] for row in services.pgbouncer.console("SHOW CONFIG")}
    assert config["pool_mode"] == "transaction"
    assert config["server_reset_query_always"] == "0"
    assert services.pgbouncer.console("RELOAD") == []


@pytest.mark.parametrize("end", ["fast", "immediate", "kill"])
async def test_postgres_keeps_its_port_and_what_was_committed(services: Services, end: str) -> None:
    port, table = services.postgres.port, f"kept_after_{end}"
    async with postgres_client(services.database_url) as client:
        await client.execute(f"CREATE TABLE {table} AS SELECT 42 AS answer")
    services.postgres.kill() if end == "kill" else services.postgres.stop("fast" if end == "fast" else "immediate")
    assert not services.postgres.is_alive
    services.postgres.start()
    assert services.postgres.port == port
    async with postgres_client(services.direct_database_url) as client:
        assert await client.fetchval(f"SELECT answer FROM {table}") == 42  # noqa: S608


async def test_a_frozen_postgres_keeps_its_clients_waiting_until_it_is_thawed(services: Services) -> None:
    async with postgres_client(services.direct_database_url) as client:
        services.postgres.freeze()
        query = asyncio.create_task(client.fetchval("SELECT 42"))
        assert not (await asyncio.wait({query}, timeout=0.3))[0]
        services.postgres.thaw()
        assert await query == 42


async def test_a_killed_rabbitmq_keeps_a_persistent_message_in_a_durable_queue(services: Services) -> None:
    message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    async with await aio_pika.connect(services.rabbitmq_url) as broker, broker.channel() as channel:
        await channel.declare_queue("durable", durable=True)
    # RabbitMQ confirms a message once it is on disk, but a new queue before its own note of it is: stop cleanly first.
    services.rabbitmq.stop()
    services.rabbitmq.start()
    async with await aio_pika.connect(services.rabbitmq_url) as broker, broker.channel() as channel:
        await channel.default_exchange.publish(message, routing_key="durable")
    processes = services.rabbitmq.processes()
    services.rabbitmq.kill()
    assert not any(map(is_running, processes))
    services.rabbitmq.start()
    async with await aio_pika.connect(services.rabbitmq_url) as broker, broker.channel() as channel:
        queue = await channel.get_queue("durable")
        kept = await queue.get()
        assert kept is not None
        assert kept.body == b"kept"
        await kept.ack()


@pytest.mark.parametrize("name", ["postgres", "pgbouncer", "epmd"])
def test_a_first_start_takes_another_port_when_the_chosen_one_is_lost(unstarted: Services, name: str) -> None:
    servers: tuple[PrivateServer, ...] = (unstarted.postgres, unstarted.pgbouncer, unstarted.rabbitmq.epmd)
    server = next(server for server in servers if server.name == name)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", lost := server.port))
        stranger.listen()
        server.start()
    assert server.port != lost
    assert server.answers()
    assert server.is_alive


def test_a_failed_start_names_the_server_and_shows_its_log(
    unstarted: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Postgres, "settings", {"max_connections": "several"})
    with pytest.raises(ServerFailed, match=r"(?s)^postgres ended with exit code 1.*invalid value.*several"):
        unstarted.postgres.start()


def test_a_missing_program_is_reported_with_what_to_install() -> None:
    with pytest.raises(ServerMissing, match=r"make install.*apt-get install pgbouncer"):
        find_program("pgbouncer", "/nowhere/pgbouncer")


def test_servers_outlive_the_thread_that_started_them_but_not_a_killed_process() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        directory, pid = owner.stdout.readline().split()
        processes: list[Process] = []

        def all_run() -> bool:
            """List them again: one that Postgres keeps for a moment only may end before it is looked up."""
            processes[:] = process_tree(int(pid))
            return len(processes) > 1 and all(map(is_running, processes))

        assert eventually(all_run)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: not any(map(is_running, processes)))
    assert eventually(lambda: not Path(directory).exists())


def test_stop_leaves_no_process_and_no_directory_behind(unstarted: Services) -> None:
    unstarted.start()
    processes = all_processes(unstarted)
    assert len(processes) > 5
    unstarted.stop()
    assert not any(map(is_running, processes))
    assert not unstarted.directory.exists()
    unstarted.stop()  # a second stop does nothing
