"""Faults of what servers keep: the database goes back to an earlier state, and parts are full."""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dev.chaos.history import Lost
from dev.chaos.workload import Workload
from dev.servers.services import Services

LOST_TAIL, LOST_HOUR = 10.0, 35.0  # seconds; the second is longer than all durations of the suite's policy
# The values that rabbitmq.conf has set, and those that nothing satisfies.
ALARMS = (
    (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "absolute", "512MB")),
    (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB")),
)


@dataclass(frozen=True)
class StorageFaults:
    """Each method is one fault, from its start to its end; what is lost is at most `longest_loss` seconds."""

    services: Services
    workload: Workload
    dice: random.Random
    longest_loss: float = LOST_HOUR

    def kinds(self) -> Sequence[Callable[[], Awaitable[None]]]:
        full = (self.fill_disk, self.alarm_broker) if self.services.postgres.has_own_disk else (self.alarm_broker,)
        return (self.lose_tail, self.restore_backup, *full)

    async def lose_tail(self) -> None:
        """The last seconds are gone, as after a failover to a standby that lagged behind."""
        await self._go_back(self.dice.uniform(1, min(LOST_TAIL, self.longest_loss)))

    async def restore_backup(self) -> None:
        """The database is put back to a state from before everything that is open now."""
        await self._go_back(self.longest_loss)

    async def _go_back(self, seconds: float) -> None:
        backup = self.services.directory / "backup"
        since = await asyncio.to_thread(self.services.postgres.back_up, backup)
        await asyncio.sleep(seconds)
        until = await asyncio.to_thread(self.services.postgres.put_back, backup)
        self.workload.lost.append(Lost(since, until))
        await asyncio.to_thread(shutil.rmtree, backup)

    async def fill_disk(self) -> None:
        """Postgres has no room left on its disk, which may end it; then somebody makes room and starts it."""
        postgres = self.services.postgres
        ballast = await asyncio.to_thread(postgres.fill_disk)
        await asyncio.sleep(self.dice.uniform(4, 10))
        ballast.unlink()
        await asyncio.to_thread(postgres.start)

    async def alarm_broker(self) -> None:
        """RabbitMQ has a memory or a disk alarm for a while: it takes no messages."""
        on, off = self.dice.choice(ALARMS)
        await asyncio.to_thread(self.services.rabbitmq.control, *on)
        await asyncio.sleep(self.dice.uniform(2, 6))
        await asyncio.to_thread(self.services.rabbitmq.control, *off)
