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
from limiter.db import decisions, idle_spells, pauses, readings, scaling_states
from limiter.domain.job import Job
from limiter.domain.policy import Policy
from limiter.domain.snapshot import BookingKey, PriorState, Snapshot, take_snapshot
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class SnapshotReader:
    """Reads all external services afresh."""

    registry: Registry
    booking: Booking
    entrypoint: Entrypoint
    policy: Policy
    telemetry: Telemetry
    clock: Callable[[], datetime]

    async def read(self, run: Run, at: datetime, key: BookingKey | None = None) -> Snapshot:
        """The platform at `at`; raises ServiceError if fleet or bookings cannot be read whole."""
        fleet, bookings, scrapes = await asyncio.gather(
            self.registry.running(), self.booking.bookings(at), self.entrypoint.scrape()
        )
        async with run.read() as connection:
            memory = await readings.load(connection, self.entrypoint.targets)
            prior = PriorState(
                scaling_states=await scaling_states.load(connection),
                spells=await idle_spells.open_spells(connection),
                closed=await idle_spells.closed_at(connection),
                standing=await decisions.standing(connection),
                resumed_at=await pauses.resumed_at(connection, Job.IDLE_WARNING, Job.IDLE_ENFORCE),
            )
        snapshot = take_snapshot(self.policy, fleet, bookings, scrapes, memory, prior, at, key)
        self.telemetry.reading_problems(snapshot.observation.problems)
        return snapshot

    async def read_fresh(self, run: Run, key: BookingKey) -> Snapshot:
        """The platform now, right before this booking is harmed."""
        return await self.read(run, self.clock(), key)
