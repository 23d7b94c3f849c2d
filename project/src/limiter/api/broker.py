"""Consuming from RabbitMQ: the handlers at their queues, the first connection, and its loss."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import aio_pika
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPChannelError
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage
from loguru import logger
from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from limiter.api.announcements import Announcements, Deployed
from limiter.api.control import Control
from limiter.api.messages import CONTROL_MESSAGE
from limiter.api.queues import Queues
from limiter.clients.rabbitmq import connect, is_blocked, reopen_channels
from limiter.clients.rabbitmq_errors import in_words
from limiter.db.engine import describe
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Described:
    """What a body of bytes is made of, for the document of our contracts; nothing is checked by it."""

    content: TypeAdapter[Any]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self.content.core_schema)


@dataclass(frozen=True)
class Consumer:
    """Hands messages to their handlers, both acknowledged by hand; `timeout`, `retry` and `again` are seconds."""

    broker: RabbitBroker
    url: str
    queues: Queues
    control: Control
    announcements: Announcements
    telemetry: Telemetry
    timeout: float
    retry: float
    again: float

    async def start(self) -> None:
        """Consume messages; while RabbitMQ is away, or refuses what we declare, say so and try again."""
        self.subscribe()
        while True:
            try:
                await self._consume()
                break
            except AMQPChannelError as error:
                self.telemetry.goes_on("rabbitmq_refused", f"at start: {describe(error)}")
            except CONNECTION_EXCEPTIONS as error:
                self.telemetry.goes_on("rabbitmq_unavailable", f"at start: {describe(error)}")
            await asyncio.sleep(self.retry)
        self.telemetry.is_over("rabbitmq_unavailable")
        logger.bind(event="broker_connected").info("connected to RabbitMQ")
        self._watch(await self.broker.connect())

    async def keep(self) -> None:
        """Declare all anew now and then: with an exchange goes our queue's binding, and RabbitMQ tells nobody."""
        while True:
            await asyncio.sleep(self.again)
            # A task of its own: the driver may cancel what waits for an answer when the connection is lost.
            declaring = asyncio.ensure_future(self._declare_again())
            try:  # the driver closes a channel without a limit of its own
                done, _ = await asyncio.wait({declaring}, timeout=2 * self.timeout)
            finally:
                declaring.cancel()
            if done and not declaring.cancelled() and (problem := declaring.exception()) is not None:
                logger.opt(exception=problem).bind(event="not_declared").error("{}", describe(problem))

    async def _declare_again(self) -> None:
        """Only where it answers: of a lost connection `_watch` tells, and one that takes no messages is silent."""
        connection = await self.broker.connect()
        if not connection.connected.is_set() or await is_blocked(self.broker):
            return
        try:
            async with asyncio.timeout(self.timeout), aio_pika.Channel(connection) as channel:
                await self.queues.declare(channel)
                await reopen_channels(self.broker)
        except AMQPChannelError as error:
            self.telemetry.goes_on("rabbitmq_refused", describe(error))
        except CONNECTION_EXCEPTIONS as error:
            logger.bind(event="not_declared").debug("{}", describe(error))

    def subscribe(self) -> None:
        """Name the handler of each queue, without a connection; FastStream describes the contracts by this."""

        async def on_control(body: Annotated[bytes, Described(CONTROL_MESSAGE)], message: RabbitMessage) -> None:
            """A command by hand; one that is refused is answered and ends in the queue `<CONTROL_QUEUE>.dead`."""
            await self.control.handle(body, message)

        async def on_deployed(body: Annotated[bytes, Described(TypeAdapter(Deployed))], message: RabbitMessage) -> None:
            """Booked models run: the address is remembered; one that is refused ends in `<DEPLOYED_QUEUE>.dead`."""
            await self.announcements.handle(body, message)

        manual: dict[str, Any] = {"ack_policy": AckPolicy.MANUAL, "decoder": _raw, "no_reply": True}
        queues = self.queues
        self.broker.subscriber(queues.live(queues.control), title="Control", **manual)(on_control)
        deployed = queues.live(queues.deployed, queues.deployed_key)
        # One at a time: of a user's two addresses the later must stay, and messages are handed over side by side.
        one = Channel(prefetch_count=1)
        self.broker.subscriber(deployed, queues.exchange, title="Deployed", channel=one, **manual)(on_deployed)

    async def _consume(self) -> None:
        """Declare everything before anything is consumed: a refusal costs the channel, and the deliveries on it."""
        # The broker would wait in silence for a RabbitMQ that is away, so it is asked only when one answers.
        async with await connect(self.url, timeout=self.timeout) as connection, asyncio.timeout(self.timeout):
            await self.queues.declare(await connection.channel())
            await self.broker.connect()
        async with asyncio.timeout(self.timeout):
            for subscriber in self.broker.subscribers:
                if not subscriber.running:  # by an earlier attempt, which failed at the next queue
                    await subscriber.start()

    def _watch(self, connection: AbstractRobustConnection) -> None:
        """Say that RabbitMQ is lost, once a minute, and when it is back; aio-pika connects again by itself."""

        def lost(_: object, error: BaseException | None) -> None:
            if not self.control.draining:
                why = describe(in_words(error, self.url)) if error else "connection closed"
                self.telemetry.goes_on("rabbitmq_unavailable", why)

        def back(_: object) -> None:
            self.telemetry.is_over("rabbitmq_unavailable")
            logger.bind(event="broker_connected").info("connected to RabbitMQ again")

        connection.close_callbacks.add(lost)
        connection.reconnect_callbacks.add(back)

    async def stop(self) -> None:
        """Disconnect, for at most `timeout` seconds."""
        leaving = asyncio.ensure_future(self.broker.stop())
        await asyncio.wait({leaving}, timeout=self.timeout)
        if not leaving.done() or leaving.exception() is not None:
            why = leaving.exception() if leaving.done() else "no answer in time"
            logger.bind(event="broker_left").warning("RabbitMQ did not confirm the disconnect in time: {}", why)


async def _raw(message: RabbitMessage) -> bytes:
    """Leave the body as it came: what cannot be decoded must be answered too, not only refused."""
    return bytes(message.body)
