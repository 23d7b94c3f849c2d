"""Whether RabbitMQ takes messages: one with a memory or disk alarm lets everybody in, and answers all but these."""

import asyncio
from contextlib import suppress
from uuid import uuid4

from aio_pika import Message
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPChannelError


async def takes_messages(connection: AbstractConnection, timeout: float) -> bool:
    """Send two that no queue gets; true as well where this user may not send them. By then it may only be left."""
    channel = await connection.channel()
    try:
        # The driver's own timeout does not bound the wait for the confirmation.
        async with asyncio.timeout(timeout):
            for _ in range(2):  # the first is taken, and is what the connection is blocked for
                await channel.default_exchange.publish(Message(b""), f"nobody.{uuid4()}", mandatory=False)
    except TimeoutError:
        return False
    except AMQPChannelError:
        return True
    return True


async def leave(connection: AbstractConnection, timeout: float) -> None:
    """Close the connection, for at most `timeout` seconds: what takes no messages confirms no farewell either."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await connection.close()
