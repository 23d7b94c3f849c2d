"""Notificator: events on a durable topic exchange, persistent, mandatory and confirmed."""

import asyncio
from typing import Any

from aio_pika.exceptions import AMQPError, DeliveryError
from aiormq.abc import DeliveredMessage
from faststream.exceptions import FastStreamException
from faststream.rabbit import RabbitBroker, RabbitExchange
from pamqp.commands import Basic

from limiter.clients.errors import Rejected, Unavailable
from limiter.clients.rabbitmq import BLOCKED, is_blocked, is_connected

PEER = "notifier"


class Notifier:
    """Publishes; success means that the broker confirmed the event and routed it to a queue."""

    def __init__(self, broker: RabbitBroker, exchange: RabbitExchange, timeout: float) -> None:
        self._broker = broker
        self._exchange = exchange
        self._timeout = timeout

    async def is_connected(self) -> bool:
        """Whether RabbitMQ is there: while it is not, nothing can have been handed to it."""
        return await is_connected(self._broker)

    async def publish(self, message_id: str, routing_key: str, body: dict[str, Any]) -> None:
        """Publish once; raises Unavailable (no confirmation) or Rejected (no queue is bound to the routing key)."""
        try:
            # The driver's own timeout does not bound the wait for the confirmation, which a blocked broker never sends.
            async with asyncio.timeout(self._timeout):
                receipt = await self._broker.publish(
                    body,
                    exchange=self._exchange,
                    routing_key=routing_key,
                    message_id=message_id,
                    persist=True,
                    mandatory=True,
                    content_type="application/json",
                )
        except TimeoutError as error:
            why = BLOCKED if await is_blocked(self._broker) else f"no confirmation within {self._timeout:g} s"
            raise Unavailable(f"{PEER}: {why}", PEER) from error
        except DeliveryError as error:  # a nack, which says no more
            why = f"a queue that is bound to {routing_key!r} is full, or cannot be written to"
            raise Unavailable(f"{PEER}: RabbitMQ refused it: {why}", PEER) from error
        except (AMQPError, FastStreamException, OSError, RuntimeError) as error:
            # RuntimeError: aiormq says so of a connection that is just being closed.
            raise Unavailable(f"{PEER}: {type(error).__name__}: {error}", PEER) from error
        if isinstance(receipt, DeliveredMessage) and isinstance(receipt.delivery, Basic.Return):
            raise Rejected(f"{PEER}: no queue is bound to {routing_key!r}: {receipt.delivery.reply_text}", PEER)
        frame = receipt.delivery if isinstance(receipt, DeliveredMessage) else receipt
        if not isinstance(frame, Basic.Ack):
            raise Unavailable(f"{PEER}: not confirmed: {frame!r}", PEER)
