"""Faults that meet a cancelling: refusals, sagas that are lost or do not end, a frozen page, a changing reservation."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dev.chaos.records import SLOT_PATH
from dev.chaos.settings import SAGA_TIMEOUT, TELL
from dev.chaos.workload import Workload
from dev.fake_platform.faulty_wire import ArmedFault
from dev.fake_platform.platform import Fault, Platform, Saga

PATIENCE = 120.0  # seconds to wait for what a fault is to meet, on a machine that is busy with other tests
ENTRYPOINTS = 2


@dataclass(frozen=True)
class CancellingFaults:
    """Each method is one fault, from its start to its end."""

    platform: Platform
    workload: Workload
    dice: random.Random

    def kinds(self) -> Sequence[Callable[[], Awaitable[None]]]:
        return (self.refuse_deletes, self.forget_saga, self.prolong_saga, self.freeze_page, self.change_reservation)

    async def refuse_deletes(self) -> None:
        """403 on every DELETE, from the first one on for a few seconds."""
        armed = self.platform.fault("booking", Fault.status(403), method="DELETE")
        if await self._hit(armed):
            await asyncio.sleep(self.dice.uniform(2, 6))
        self.platform.end_fault(armed)

    async def forget_saga(self) -> None:
        """The dispatcher loses a saga that has not ended, after it was carried out or before."""
        if (saga := await self._saga()) is not None:
            self.platform.forget(saga, carried_out=self.dice.random() < 0.5)

    async def prolong_saga(self) -> None:
        """A saga goes on for longer than anybody waits for it, and ends after all."""
        if (saga := await self._saga()) is not None:
            self.platform.prolong(saga)
            await asyncio.sleep(SAGA_TIMEOUT + TELL + self.dice.uniform(0, 2))
            self.platform.release(saga)

    async def freeze_page(self) -> None:
        """One Entrypoint process repeats its page to the byte."""
        process = self.dice.randrange(ENTRYPOINTS)
        self.platform.freeze_entrypoint(process)
        await asyncio.sleep(self.dice.uniform(3, 8))
        self.platform.thaw_entrypoint(process)

    async def change_reservation(self) -> None:
        """A reservation changes between its reading and the DELETE of a slot, and again before the next one."""
        armed = self.platform.fault("booking", Fault.preceded(self._change), "/slot-usage/", times=1, method="DELETE")
        await self._hit(armed)
        self.platform.end_fault(armed)
        for booking in self.workload.warned()[:1]:
            any(self.workload.give_back(slot) for slot in booking.named)

    def _change(self, path: str) -> None:
        found = SLOT_PATH.search(path)
        assert found is not None
        if self.dice.random() < 0.5:
            self.workload.give_back(found[2])
        else:
            self.workload.book_on(self.workload.bookings[found[1]])

    async def _hit(self, armed: ArmedFault) -> bool:
        """Wait until the fault has met a call; false if none came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await armed.met.wait()
        return armed.met.is_set()

    async def _saga(self) -> Saga | None:
        """Wait for a saga that runs; None if none does."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if running := [saga for saga in self.platform.running_sagas() if saga.outcome != "stuck"]:
                return self.dice.choice(running)
            await asyncio.sleep(0.05)
        return None
