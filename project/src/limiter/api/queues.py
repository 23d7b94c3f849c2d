"""The queues that messages come from, and those for what was not understood."""

from dataclasses import dataclass
from typing import Any, cast

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPChannelError, ChannelNotFoundEntity
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.schemas.queue import ClassicQueueArgs


@dataclass(frozen=True)
class Queues:
    """Names of our queues, and the exchange and key from which announcements come."""

    control: str
    deployed: str
    deployed_key: str
    exchange: RabbitExchange

    @property
    def names(self) -> tuple[str, str]:
        return self.control, self.deployed

    def dead(self, name: str) -> RabbitQueue:
        """The dead-letter queue of a queue."""
        return RabbitQueue(f"{name}.dead", durable=True)

    def live(self, name: str, routing_key: str = "") -> RabbitQueue:
        """A durable queue whose rejected messages go to its dead-letter queue."""
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}.dead"}
        return RabbitQueue(name, durable=True, arguments=cast(ClassicQueueArgs, dead), routing_key=routing_key)

    async def declare(self, channel: AbstractChannel) -> None:
        """Exchange, dead-letter queues, queues and binding: nothing can be lost from then on.

        Not by the broker: it would remember a queue as of the channel on which it was declared, and consume there.
        """
        for declared in self._declared():
            made = await _declare(channel, declared)
            if isinstance(made, AbstractQueue) and made.name == self.deployed:
                await made.bind(self.exchange.name, self.deployed_key)

    async def missing(self, connection: AbstractConnection) -> list[str]:
        """What is not there yet; declares nothing that is not.

        Raises AMQPChannelError of what was declared in another way, or may not be declared by us.
        """
        names = []
        for declared in self._declared():
            try:
                async with connection.channel() as channel:
                    await _declare(channel, declared, passive=True)
            except ChannelNotFoundEntity:
                names.append(declared.name)
            else:
                async with connection.channel() as channel:
                    await _declare(channel, declared)
        return names

    def _declared(self) -> tuple[RabbitExchange | RabbitQueue, ...]:
        return (self.exchange, *map(self.dead, self.names), *map(self.live, self.names))


async def _declare(
    channel: AbstractChannel, declared: RabbitExchange | RabbitQueue, passive: bool = False
) -> AbstractExchange | AbstractQueue:
    name, durable = declared.name, declared.durable
    if isinstance(declared, RabbitExchange):
        return await channel.declare_exchange(name, declared.type.value, durable=durable, passive=passive)
    arguments = cast(Any, declared.arguments)
    return await channel.declare_queue(name, durable=durable, passive=passive, arguments=arguments)


async def dead_letters(broker: RabbitBroker, queues: Queues) -> dict[str, int] | None:
    """How many messages wait in the dead-letter queue of each queue; None if RabbitMQ does not tell."""
    try:
        connection = await broker.connect()
        async with connection.channel() as channel:
            found = {}
            for name in queues.names:
                dead = await channel.declare_queue(queues.dead(name).name, passive=True, robust=False)
                found[name] = dead.declaration_result.message_count or 0
            return found
    except (AMQPChannelError, *CONNECTION_EXCEPTIONS):
        return None
