"""The Notificator's part in the demo: it announces each user's deployed models and receives our events."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aio_pika

from dev.demo.story import NAMES

DEPLOYED, NO_USE = "models.deployed.successfully", "reservation.no_use"


class Notifier:
    """Reads the events from its own durable queue."""

    def __init__(self, queue: aio_pika.abc.AbstractQueue, exchange: aio_pika.abc.AbstractExchange) -> None:
        self._queue = queue
        self._exchange = exchange
        self._seen: set[str | None] = set()

    async def received(self) -> list[dict[str, Any]]:
        """The bodies of the events received since the last call, in order; one that is delivered again only once."""
        found = []
        while (message := await self._queue.get(fail=False)) is not None:
            await message.ack()
            if message.message_id not in self._seen:
                self._seen.add(message.message_id)
                found.append(json.loads(message.body))
        return found

    async def announce(self, user: UUID) -> None:
        """Publish the platform's event from which the limiter learns the user's address."""
        name = NAMES[user]
        body = {"user_id": str(user), "user_name": name, "user_email": f"{name}@example.org"}
        lists: dict[str, list[str]] = {"model_ids": [], "model_names": [], "reservation_ids": []}
        await self._exchange.publish(aio_pika.Message(json.dumps(body | lists).encode()), DEPLOYED)


@asynccontextmanager
async def notifier(url: str, exchange_name: str) -> AsyncIterator[Notifier]:
    """The Notificator, connected to the broker at `url`; its queue is bound before the first event can be sent."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(exchange_name, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("notificator", durable=True)
        await queue.bind(exchange, NO_USE)
        yield Notifier(queue, exchange)
