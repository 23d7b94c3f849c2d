"""One look at the platform, for the idle jobs: who holds what, and whether it is used.

The readings are folded into what rps_check remembered, but not written: only rps_check writes them. So a look is as
fresh as its own scrape, and two jobs never disagree about the memory.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from limiter.clients.booking import Booking
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.registry import Registry
from limiter.db import decisions, idle_spells, locks, readings
from limiter.db.runs import Run
from limiter.domain.action import Job
from limiter.domain.policy import Policy
from limiter.domain.survey import Holder, Past, Survey, survey
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Surveyor:
    """Looks at all neighbours afresh."""

    registry: Registry
    booking: Booking
    entrypoint: Entrypoint
    policy: Policy
    telemetry: Telemetry
    clock: Callable[[], datetime]

    async def look(self, run: Run, at: datetime, holder: Holder | None = None) -> Survey:
        """One look at `at`; raises NeighbourError if fleet or bookings cannot be read whole."""
        fleet, bookings, scrapes = await asyncio.gather(
            self.registry.running(), self.booking.bookings(at), self.entrypoint.scrape()
        )
        async with run.read() as connection:
            memory = await readings.load(connection, self.entrypoint.targets)
            past = Past(
                await readings.sightings(connection),
                await idle_spells.open_spells(connection),
                await idle_spells.closed_at(connection),
                await decisions.standing(connection),
                await locks.resumed_at(connection, Job.IDLE_WARNING, Job.IDLE_ENFORCE),
            )
        found = survey(self.policy, fleet, bookings, scrapes, memory, past, at, holder)
        self.telemetry.reading_problems(found.seen.problems)
        run.notes.looks.append((holder, found))
        return found

    async def look_again(self, run: Run, holder: Holder) -> Survey:
        """A fresh look right before harm is done to this holder."""
        return await self.look(run, self.clock(), holder)
