"""Sends one control message, and waits for its reply."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractConnection

from limiter.clients.rabbitmq import connect


async def ask(url: str, queue: str, request: dict[str, str], timeout: float) -> dict[str, Any]:
    """Send a control message and return its reply.

    Raises TimeoutError after `timeout` seconds without a reply, aio_pika's DeliveryError if there is no such queue,
    ConnectionError if RabbitMQ is silent.
    """
    identity, until = uuid4().hex, asyncio.get_running_loop().time() + timeout
    async with await _connected(url, timeout) as connection, asyncio.timeout_at(until):
        channel = await connection.channel(on_return_raises=True)
        answers = await channel.declare_queue(exclusive=True)
        raw = json.dumps(request | {"request_id": identity}).encode()
        message = aio_pika.Message(raw, reply_to=answers.name, correlation_id=identity)
        await channel.default_exchange.publish(message, queue)
        async with answers.iterator() as arrived:
            async for answer in arrived:
                await answer.ack()
                return dict(json.loads(answer.body))
    raise ConnectionError("the connection was lost before the reply came")


async def _connected(url: str, timeout: float) -> AbstractConnection:
    """A connection; that none came in time is no message that waits."""
    try:
        async with asyncio.timeout(timeout):
            return await connect(url)
    except TimeoutError:
        raise ConnectionError(f"no answer within {timeout:g} s; nothing was sent") from None
