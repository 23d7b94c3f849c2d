"""Sends one control message, and waits for its reply."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from limiter.clients.rabbitmq import connect

Arrived = asyncio.Queue[AbstractIncomingMessage]

CLOSE_SECONDS = 1.0  # a frozen RabbitMQ never answers that the connection is closed


async def ask(url: str, queue: str, request: dict[str, str], timeout: float) -> dict[str, Any]:
    """Send a control message and return its reply.

    Raises TimeoutError after `timeout` seconds without a reply, aio_pika's PublishError if there is no such queue, its
    DeliveryError if that is full, ConnectionError if RabbitMQ is silent, or does not take the message.
    """
    until = asyncio.get_running_loop().time() + timeout
    connection = await _connected(url, timeout)
    try:
        try:
            async with asyncio.timeout_at(until):
                channel, arrived = await _sent(connection, queue, request)
        except TimeoutError:
            raise ConnectionError(
                f"the message was not taken within {timeout:g} s, as with a memory or disk alarm there (see `doctor`); "
                "it may still be carried out later"
            ) from None
        async with asyncio.timeout_at(until):
            return await _reply(channel, arrived)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await connection.close()


async def _sent(connection: AbstractConnection, queue: str, request: dict[str, str]) -> tuple[AbstractChannel, Arrived]:
    """Send it, and return where the reply arrives once RabbitMQ has taken it."""
    identity, arrived = uuid4().hex, Arrived()
    channel = await connection.channel(on_return_raises=True)
    answers = await channel.declare_queue(exclusive=True)
    # Not by its iterator, which at its end waits for RabbitMQ, however long that is frozen.
    await answers.consume(arrived.put, no_ack=True)
    raw = json.dumps(request | {"request_id": identity}).encode()
    message = aio_pika.Message(raw, reply_to=answers.name, correlation_id=identity)
    await channel.default_exchange.publish(message, queue)
    return channel, arrived


async def _reply(channel: AbstractChannel, arrived: Arrived) -> dict[str, Any]:
    answer = asyncio.ensure_future(arrived.get())
    # Of the channel, which ends with its connection: the connection's own says only that we have closed it.
    try:
        await asyncio.wait({answer, asyncio.ensure_future(channel.closed())}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answer.cancel()  # which does nothing if it has come
    if not answer.done():
        raise ConnectionError("the connection was lost before the reply came")
    return dict(json.loads(answer.result().body))


async def _connected(url: str, timeout: float) -> AbstractConnection:
    """A connection; that none came in time is no message that waits."""
    try:
        async with asyncio.timeout(timeout):
            return await connect(url)
    except TimeoutError:
        raise ConnectionError(f"no answer within {timeout:g} s; nothing was sent") from None
