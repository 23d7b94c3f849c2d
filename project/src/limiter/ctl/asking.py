"""Sends one control message, and waits for its reply."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import click

from limiter.clients.rabbitmq import connect

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds


class Duration(click.ParamType[timedelta]):
    """Seconds, or a number with its unit: 90m, 2h, 3d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd]?)", str(value))
        if not found:
            self.fail(f"{value!r} is neither seconds nor such as 90m, 2h, 3d", param, ctx)
        return timedelta(seconds=float(found[1]) * UNITS[found[2] or "s"])


async def ask(url: str, queue: str, request: dict[str, str], timeout: float) -> dict[str, Any]:
    """Send a control message and return its reply.

    Raises TimeoutError after `timeout` seconds without a reply, aio_pika's DeliveryError if there is no such queue.
    """
    identity = uuid4().hex
    async with asyncio.timeout(timeout), await connect(url) as connection:
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
