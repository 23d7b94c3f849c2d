"""A plain connection to RabbitMQ, for what needs no recovery by itself, and whether the broker takes messages."""

import asyncio

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPConnectionError
from aiormq.exceptions import InvalidFrameError
from faststream.rabbit import RabbitBroker

BLOCKED = "RabbitMQ takes no messages: it has a memory or disk alarm"
AT_ONCE = 0.01  # seconds: of a connection that is not blocked it is known without waiting


async def connect(url: str, timeout: float | None = None) -> AbstractConnection:
    """Connect within `timeout` seconds; raises one of aio_pika's CONNECTION_EXCEPTIONS."""
    # Not aio_pika.connect: it leaves a connection that failed unclosed, which the garbage collector then tries to close
    # from whatever thread it runs in, where there is no event loop.
    connection = aio_pika.Connection(aio_pika.connection.make_url(url))
    try:
        await connection.connect(timeout=timeout)
    except InvalidFrameError as error:  # of which the driver keeps that it came, and not what it said
        await connection.close()
        raise AMQPConnectionError(
            "it closed the connection: is there such a virtual host, and may we use it?"
        ) from error
    except BaseException:
        await connection.close()
        raise
    return connection


async def is_blocked(broker: RabbitBroker) -> bool:
    """Whether RabbitMQ has said that it takes no messages for now; false too while it is away."""
    connection = await broker.connect()
    transport = connection.transport
    if transport is None or not connection.connected.is_set():
        return False
    try:
        async with asyncio.timeout(AT_ONCE):
            await transport.ready()
    except TimeoutError:
        return True
    return False
