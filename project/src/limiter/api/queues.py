"""The queues that messages come from."""

from dataclasses import dataclass
from typing import cast

from faststream.rabbit import RabbitExchange, RabbitQueue
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
