"""One look at the platform, for the idle jobs: who holds what, and whether it is used.

The readings are folded into what rps_check remembered, but not written: only rps_check writes them. So a look is as
fresh as its own scrape, and two jobs never disagree about the memory.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from limiter.clients.booking import Booking
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.registry import Registry
from limiter.db import idle_spells, locks, readings
from limiter.db.idle_spells import Holder
from limiter.db.runs import Run
from limiter.domain.action import Job, Reason
from limiter.domain.fleet import Fleet, ServedModel, Sighting
from limiter.domain.folding import fold
from limiter.domain.idleness import Facts, Spell, Verdict, judge
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Holding, holdings, other_users_claim
from limiter.domain.usage import Observation
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Survey:
    """Everything one look found, at one moment."""

    at: datetime
    fleet: Fleet
    bookings: Bookings
    seen: Observation
    sightings: Mapping[UUID, Sighting]
    spells: Mapping[Holder, Spell]
    closed: Mapping[Holder, datetime]
    resumed_at: datetime | None
    holdings: Mapping[Holder, Holding]

    def ending(self, spell: Spell) -> Reason | None:
        """Why a spell without a holding is over; None while that cannot be told for sure."""
        if spell.model_id not in self.fleet.by_id:
            return Reason.MODEL_GONE if self.fleet.complete else None
        return Reason.BOOKING_GONE if spell.model_name not in self.bookings.unreadable else None


@dataclass(frozen=True)
class Surveyor:
    """Looks at all neighbours afresh, and judges what it sees."""

    registry: Registry
    booking: Booking
    entrypoint: Entrypoint
    policy: Policy
    telemetry: Telemetry
    clock: Callable[[], datetime]

    async def look(self, run: Run, at: datetime) -> Survey:
        """One look at `at`; raises NeighbourError if fleet or bookings cannot be read whole."""
        fleet, bookings, scrapes = await asyncio.gather(
            self.registry.running(), self.booking.bookings(at), self.entrypoint.scrape()
        )
        async with run.read() as connection:
            memory = await readings.load(connection, self.entrypoint.targets)
            sightings = await readings.sightings(connection)
            spells = await idle_spells.open_spells(connection)
            closed = await idle_spells.closed_at(connection)
            resumed = await locks.resumed_at(connection, Job.IDLE_WARNING, Job.IDLE_ENFORCE)
        seen = fold(memory, scrapes, fleet.replicas_by_name.keys(), at, self.policy.window, look=True)
        self.telemetry.reading_problems(seen.problems)
        held = holdings(fleet, bookings, self.policy.idle_rule.row_gap, at)
        by_holder = {(hold.model.id, hold.user.id): hold for hold in held}
        return Survey(at, fleet, bookings, seen, sightings, spells, closed, resumed, by_holder)

    async def look_again(self, run: Run) -> Survey:
        """A fresh look right before harm is done."""
        return await self.look(run, self.clock())

    def judge(self, survey: Survey, hold: Holding, spell: Spell | None) -> Verdict:
        rule = self.policy.idle(hold.model.name)
        return judge(rule, hold, spell, self._facts(survey, hold), survey.at)

    def _facts(self, survey: Survey, hold: Holding) -> Facts:
        name = hold.model.name
        sighting = survey.sightings.get(hold.model.id)
        used = survey.seen.memory.usage.get(name)
        measured = survey.seen.memory.measured_since
        facts = Facts(
            known=survey.seen.known(name),
            first_seen_at=sighting.first_seen_at if sighting else None,
            measured_since=max(measured, survey.at - self.policy.retention) if measured else None,
            used_at=used.last_used_at if used else None,
            resumed_at=survey.resumed_at,
            closed_at=survey.closed.get((hold.model.id, hold.user.id)),
            gaps=survey.seen.memory.gaps,
            bookings_readable=name not in survey.bookings.unreadable,
        )
        return replace(facts, freeable=self.uninstall_bar(survey, hold.model, hold.user.id) is None)

    def uninstall_bar(self, survey: Survey, model: ServedModel, user_id: UUID) -> Reason | None:
        """Why the model must not be uninstalled on account of this user; None: it may be."""
        rule = self.policy.idle(model.name)
        if not rule.uninstall or rule.exempt:
            return Reason.EXEMPT
        if model.name in survey.bookings.unreadable:
            return Reason.BOOKINGS_UNREADABLE
        now, soon = other_users_claim(model, user_id, survey.bookings, rule.uninstall_guard, survey.at)
        if now:
            return Reason.HELD_BY_ANOTHER
        return Reason.BOOKED_SOON if soon else None
