"""A connection to RabbitMQ that cannot be made leaves nothing behind."""

import asyncio
import gc
import warnings

import aio_pika
import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPConnectionError

from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.clients.rabbitmq import connect


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


async def test_a_virtual_host_that_is_not_there_is_told_in_words(services: Services) -> None:
    with pytest.raises(AMQPConnectionError, match="is there such a virtual host"):
        await connect(f"{services.rabbitmq_url}nowhere", timeout=5)
