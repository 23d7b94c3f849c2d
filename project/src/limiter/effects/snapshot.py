"""Reads one snapshot of the platform for the idle jobs: who has booked what, and whether it is used.

The readings are folded into what rps_check remembered, but not written: only rps_check writes them. So a snapshot is as
fresh as its own scrape, and two jobs never disagree about the memory.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from limiter.clients.booking import Booking
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.registry import Registry
from limiter.computing import computed
from limiter.db import decisions, idle_spells, keeps, pauses
from limiter.domain.active_bookings import slots_by_user
from limiter.domain.fleet import Fleet
from limiter.domain.job import Job
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings
from limiter.domain.shard import Shard
from limiter.domain.snapshot import BookingKey, PriorState, Snapshot, take_snapshot
from limiter.domain.usage import Scrape
from limiter.effects.memory import Remembered, WarmMemory
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class SnapshotReader:
    """Reads the external services afresh."""

    registry: Registry
    booking: Booking
    entrypoint: Entrypoint
    policy: Policy
    telemetry: Telemetry
    clock: Callable[[], datetime]
    shard: Shard
    warm: WarmMemory

    async def read(self, run: Run, at: datetime, key: BookingKey | None = None) -> Snapshot:
        """The whole platform at `at`; raises ServiceError if fleet or bookings cannot be read whole."""
        last = await self._remembered(run)
        fleet, bookings, scrapes = await asyncio.gather(
            self.registry.running(), self.booking.bookings(at), self.entrypoint.scrape()
        )
        if self.shard.of > 1:
            bookings = bookings.of_models(fleet.by_id, self.shard.minds)
        return await self._snapshot(run, at, last, fleet, bookings, scrapes, key)

    async def read_fresh(self, run: Run, key: BookingKey) -> Snapshot:
        """The whole platform now, right before a model is harmed."""
        return await self.read(run, self.clock(), key)

    async def refresh(self, run: Run, key: BookingKey, base: Snapshot, reservation_id: str | None) -> Snapshot:
        """Use, and one reservation, as they are now; everything else as in the snapshot before.

        Raises ServiceError if the reservation cannot be read.
        """
        last = await self._remembered(run)
        scrapes = await self.entrypoint.scrape()
        bookings = base.bookings
        if reservation_id is not None:
            reservation = await self.booking.reservation(reservation_id)
            bookings = bookings.with_one(reservation_id, reservation)
        return await self._snapshot(run, self.clock(), last, base.fleet, bookings, scrapes, key)

    async def _remembered(self, run: Run) -> Remembered:
        """What rps_check remembers, read before the pages: of a later one their counters would seem to have fallen."""
        async with run.read() as connection:
            return await self.warm.load(run, connection, self.entrypoint.targets)

    async def _snapshot(
        self,
        run: Run,
        at: datetime,
        last: Remembered,
        fleet: Fleet,
        bookings: Bookings,
        scrapes: list[Scrape],
        key: BookingKey | None,
    ) -> Snapshot:
        async with run.read() as connection:
            fleet = fleet.with_last_known(last.scaling_states.values())
            spells = await idle_spells.open_spells(connection)
            of_user = bookings if key is None else bookings.of_user(key[1])
            slots = await computed(slots_by_user, fleet, of_user, self.policy.row_gap)
            concerned = slots.keys() | spells.keys()
            prior = PriorState(
                scaling_states=last.scaling_states,
                spells=spells,
                closed=await idle_spells.closed_at(connection, concerned),
                standing=await decisions.standing(connection),
                resumed_at=await pauses.resumed_at(connection, Job.IDLE_WARNING, Job.IDLE_ENFORCE),
                keeps=await keeps.active_or_ended_since(connection, at - self.policy.retention),
            )
        snapshot = await computed(take_snapshot, self.policy, fleet, bookings, scrapes, last.memory, prior, at, key)
        self.telemetry.reading_problems(snapshot.observation.problems)
        return snapshot
