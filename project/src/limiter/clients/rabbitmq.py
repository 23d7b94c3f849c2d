"""A plain connection to RabbitMQ, for what needs no recovery by itself."""

import aio_pika
from aio_pika.abc import AbstractConnection


async def connect(url: str, timeout: float | None = None) -> AbstractConnection:
    """Connect within `timeout` seconds; raises one of aio_pika's CONNECTION_EXCEPTIONS."""
    # Not aio_pika.connect: it leaves a connection that failed unclosed, which the garbage collector then tries to close
    # from whatever thread it runs in, where there is no event loop.
    connection = aio_pika.Connection(aio_pika.connection.make_url(url))
    try:
        await connection.connect(timeout=timeout)
    except BaseException:
        await connection.close()
        raise
    return connection
