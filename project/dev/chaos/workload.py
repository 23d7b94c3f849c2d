"""The workload of the fault suite: users who book and forget, traffic that comes and goes, people who intervene."""

import asyncio
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aio_pika

from dev.chaos.history import BookedOn, GivenBack, Kept, Lost, Paused, Received
from dev.fake_platform.booking import Reservation, Slot
from dev.fake_platform.platform import Platform
from limiter.ctl.asking import ask

ALWAYS_USED = frozenset({"steady"})
KEEP_SECONDS = 10.0
PAUSE_AT = 6  # the user at whose booking there is a pause for certain
STALE_SECONDS = 60.0  # after which no message is carried out any more
REPLY_SECONDS = 5.0  # to wait for the reply to a control message
ROW_ENDS, LATER = 1800, 9000  # seconds from the booking on: the end of the unbroken row, and a slot of another row


@dataclass
class UserBooking:
    """What one user has booked of one model; `named` are the slots at risk by the last that he was told."""

    user: str
    model: str
    reservations: list[Reservation] = field(default_factory=list)
    named: tuple[str, ...] = ()
    warned: bool = False


class Workload:
    """What users do, and what of it the checker must know."""

    def __init__(self, platform: Platform, rabbitmq_url: str, control_queue: str = "rps_limiter.control") -> None:
        self.platform = platform
        self.bookings: dict[str, UserBooking] = {}  # by the reservation's id
        self.given_back: list[GivenBack] = []
        self.keeps: list[Kept] = []
        self.pauses: list[Paused] = []
        self.lost: list[Lost] = []
        self.booked_on: list[BookedOn] = []
        self._by_user: dict[str, UserBooking] = {}
        self._url, self._queue = rabbitmq_url, control_queue
        self._people: set[asyncio.Task[None]] = set()
        self._forgotten = 0
        self._pausing = False
        self._sure_after = 0.0
        for name, rate in (("steady", 5.0), ("busy", 36.0)):
            self._begin(name, split=False)
            platform.set_rate(name, rate)

    def live(self, dice: random.Random) -> None:
        """What users do between two faults: one books and forgets, traffic changes, others come back or intervene."""
        self._forgotten += 1
        self._begin(f"forgotten-{self._forgotten}", split=self._forgotten % 2 == 0)
        self.platform.set_rate("busy", dice.choice((1.0, 12.0, 36.0)))
        if dice.random() < 0.3:
            self.platform.call(f"forgotten-{dice.randint(1, self._forgotten)}")
        warned = self.warned()
        if warned and (dice.random() < 0.5 or not self.booked_on):
            self.book_on(dice.choice(warned))
        if warned and (dice.random() < 0.3 or not self.keeps):
            self._let(self._keep(dice.choice(warned)))
        if (dice.random() < 0.1 or self._forgotten == PAUSE_AT) and not self._pausing:
            self._pausing = True
            self._let(self._pause(dice.uniform(1, 3)))

    def _begin(self, name: str, *, split: bool) -> None:
        """A model that is called once, and its user: slots in a row and a later one, in one reservation or in two."""
        self.platform.add_model(name)
        self.platform.call(name)
        now, booking = int(time.time()), UserBooking(str(uuid4()), name)
        current, *row = [(now - 1, now + 600), (now + 600, now + 1200), (now + 1202, now + ROW_ENDS)]
        later = (now + LATER, now + LATER + 600)
        for slots in ([current, later], row) if split else ([current, *row, later],):
            made = self.platform.add_reservation(booking.user, f"user-of-{name}", name, slots=slots)
            booking.reservations.append(made)
            self.bookings[made.id] = booking
        self._by_user[booking.user] = booking

    def read(self, event: Received) -> None:
        """A user reads what he is told."""
        booking = self._by_user[event.user]
        booking.warned = event.stage == "warning"
        booking.named = tuple(named.slot for named in event.named)

    def warned(self) -> list[UserBooking]:
        """Who is warned, and not told yet how that ended."""
        return [booking for booking in self._by_user.values() if booking.warned]

    def unused(self) -> list[str]:
        """The models that run although nobody calls them any more."""
        return [model.name for model in self.platform.models if model.name.startswith("forgotten-")]

    # --- what may happen to a reservation while it is cancelled ---

    def book_on(self, booking: UserBooking) -> None:
        """Add a slot to the row, which no warning names yet."""
        row = [slot for made in booking.reservations for slot in made.slots]
        reservation = booking.reservations[-1]
        if not reservation.slots or not row:
            return
        first = min(slot.start for slot in row)
        end = max(slot.end for slot in row if slot.start < first + LATER)
        reservation.slots.append(slot := Slot(end + 2, end + 302))
        self.booked_on.append(BookedOn(time.time(), slot.id))

    def give_back(self, slot_id: str) -> bool:
        """A user cancels one of his slots himself; false if it is not booked."""
        for reservation in self.platform.reservations:
            for slot in reservation.slots:
                if slot.id == slot_id:
                    reservation.slots.remove(slot)
                    self.given_back.append(GivenBack(time.time(), slot_id))
                    return True
        return False

    # --- people who intervene; they wait for replies, so each does so on his own ---

    def _let(self, act: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(act)
        self._people.add(task)
        task.add_done_callback(self._people.discard)

    async def _keep(self, booking: UserBooking) -> None:
        until = time.time() + KEEP_SECONDS
        moment = datetime.fromtimestamp(until, UTC).isoformat()
        request = {"command": "keep", "model": booking.model, "user_id": booking.user, "until": moment}
        if await self._asked(request):
            self.keeps.append(Kept(time.time(), until, booking.user, booking.model))

    async def _pause(self, seconds: float) -> None:
        paused = await self._asked({"command": "pause_job", "job": "idle_enforce"})
        since = time.time()
        await asyncio.sleep(seconds)
        if paused and since > self._sure_after:
            self.pauses.append(Paused(since, time.time()))
        await self.resume()
        self._pausing = False

    async def resume(self) -> None:
        """Resume idle_enforce, however often it takes.

        A message without a reply may still be obeyed, as long as a replica can be frozen: no pause counts meanwhile.
        """
        while not await self._asked({"command": "resume_job", "job": "idle_enforce"}):
            self._sure_after = time.time() + STALE_SECONDS
            await asyncio.sleep(0.5)

    async def rest(self) -> None:
        """Wait until everybody has got his reply; nothing stays paused."""
        await asyncio.gather(*self._people)
        await self.resume()

    async def _asked(self, request: dict[str, str]) -> bool:
        """Send a control message; true if the reply says that it was carried out."""
        with suppress(TimeoutError, OSError, RuntimeError, aio_pika.exceptions.AMQPError):
            reply = await ask(self._url, self._queue, request, REPLY_SECONDS)
            return reply["outcome"] in ("completed", "paused", "resumed")
        return False
