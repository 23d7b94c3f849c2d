"""A connection to RabbitMQ that cannot be made leaves nothing behind."""

import asyncio
import gc
import warnings
from itertools import count

import aio_pika
import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPConnectionError
from faststream.rabbit import RabbitBroker

from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.clients.rabbitmq import connect, is_connected


def left_open() -> list[aio_pika.Connection]:
    """Connections that the garbage collector would have to close."""
    return [one for one in gc.get_objects() if type(one) is aio_pika.Connection and not one.is_closed]


async def test_what_failed_to_connect_is_closed_whatever_thread_collects_it() -> None:
    gc.collect()
    before = len(left_open())
    gc.disable()
    try:
        for _ in range(8):
            with pytest.raises(CONNECTION_EXCEPTIONS):
                await connect(f"amqp://guest:guest@127.0.0.1:{free_port()}/", timeout=1)
        assert len(left_open()) == before
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "coroutine 'Connection.close' was never awaited" comes from a thread
            await asyncio.to_thread(gc.collect)
    finally:
        gc.enable()


async def test_a_virtual_host_that_is_not_there_is_named(services: Services) -> None:
    with pytest.raises(CONNECTION_EXCEPTIONS, match="virtual host 'nowhere': RabbitMQ lets nobody in") as caught:
        await connect(f"{services.rabbitmq_url}nowhere", timeout=10)
    assert isinstance(caught.value, AMQPConnectionError)  # as every other problem of a connection is


async def test_that_it_is_connected_is_known_however_long_the_processor_was_elsewhere(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy machine raises the alarm that events wait for RabbitMQ, which is there."""
    broker, loop, slow = RabbitBroker(services.rabbitmq_url), asyncio.get_running_loop(), count()
    assert not await is_connected(broker)
    await broker.connect()
    real = loop.time
    with monkeypatch.context() as stalled:
        stalled.setattr(loop, "time", lambda: real() + next(slow))
        assert await is_connected(broker)
    await broker.stop()
    assert not await is_connected(broker)


async def test_whoever_asks_no_more_leaves_nothing_that_asks_on(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, asked, ended = RabbitBroker(services.rabbitmq_url), asyncio.Event(), asyncio.Event()

    async def never_there(_: float | None) -> bool:
        asked.set()
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(broker, "ping", never_there)
    asking = asyncio.create_task(is_connected(broker))
    await asked.wait()
    asking.cancel()
    async with asyncio.timeout(5):
        await ended.wait()
