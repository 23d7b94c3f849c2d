"""One snapshot of the platform: who has booked what, whether it is used, and what is to be done about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from limiter.domain.active_bookings import ActiveBooking, active_bookings
from limiter.domain.audit import DecisionRecord, Numbers
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.folding import fold
from limiter.domain.idleness import Facts, IdleSpell, Verdict, judge
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, UnbookingMode, other_users_claim
from limiter.domain.usage import Memory, Observation, Scrape

BookingKey = tuple[UUID, UUID]  # model id, user id


@dataclass(frozen=True, slots=True)
class PriorState:
    """What is remembered besides the readings; `standing` is the last decision about each booking."""

    scaling_states: Mapping[UUID, ScalingState]
    spells: Mapping[BookingKey, IdleSpell]
    closed: Mapping[BookingKey, datetime]
    standing: Mapping[BookingKey, str]
    resumed_at: datetime | None = None


@dataclass(frozen=True)
class Snapshot:
    """Everything known of the platform at one moment."""

    at: datetime
    policy: Policy
    fleet: Fleet
    bookings: Bookings
    observation: Observation
    prior: PriorState
    active_bookings: Mapping[BookingKey, ActiveBooking]
    scrapes: Sequence[Scrape] = ()
    remembered: Memory = field(default_factory=Memory)  # what the scrapes were folded into

    def verdict(self, key: BookingKey) -> Verdict | None:
        """What to do about one booking; None if there is neither an active booking nor a spell to end."""
        return self.judged(self.active_bookings.get(key), self.prior.spells.get(key))

    def judged(self, booking: ActiveBooking | None, spell: IdleSpell | None) -> Verdict | None:
        """The verdict on a booking, or on a spell that has lost its booking."""
        if spell is not None and spell.dry_run != self.policy.dry_run:
            return Verdict(Decision.EXPIRE, Reason.MODE_CHANGED)
        if booking is not None:
            return judge(self.policy.idle(booking.model.name), booking, spell, self._facts(booking), self.at)
        reason = self._ending(spell) if spell else None
        return Verdict(Decision.EXPIRE, reason) if reason else None

    def verdict_on(self, spell: IdleSpell) -> Verdict:
        """The verdict on one spell: to wait while it is not known whether its booking is over."""
        return self.verdict(spell.key) or Verdict(Decision.HOLD, Reason.READING_UNKNOWN)

    def _ending(self, spell: IdleSpell) -> Reason | None:
        """Why a spell without an active booking is over; None while that is not certain."""
        if spell.model_id not in self.fleet.by_id:
            return Reason.MODEL_GONE if self.fleet.complete else None
        return Reason.BOOKING_GONE if spell.model_name not in self.bookings.unreadable else None

    def _facts(self, booking: ActiveBooking) -> Facts:
        name, key = booking.model.name, (booking.model.id, booking.user.id)
        state = self.prior.scaling_states.get(booking.model.id)
        used = self.observation.memory.usage.get(name)
        measured = self.observation.memory.measured_since
        return Facts(
            known=self.observation.known(name),
            first_seen_at=state.first_seen_at if state else None,
            measured_since=max(measured, self.at - self.policy.retention) if measured else None,
            used_at=used.last_used_at if used else None,
            resumed_at=self.prior.resumed_at,
            closed_at=self.prior.closed.get(key),
            gaps=self.observation.memory.gaps,
            bookings_readable=name not in self.bookings.unreadable,
            freeable=self.uninstall_conflict(booking.model, booking.user.id) is None,
        )

    def used_since(self, spell: IdleSpell) -> bool:
        """True if the model was called since the spell's idle time began."""
        used = self.observation.memory.usage.get(spell.model_name)
        return used is not None and used.last_used_at > spell.idle_since

    def uninstall_conflict(self, model: ServedModel, user_id: UUID) -> Reason | None:
        """Why the model must not be uninstalled on account of this user; None: it may be."""
        rule = self.policy.idle(model.name)
        if not rule.uninstall or rule.exempt:
            return Reason.EXEMPT
        if model.name in self.bookings.unreadable:
            return Reason.BOOKINGS_UNREADABLE
        now, soon = other_users_claim(model, user_id, self.bookings, rule.uninstall_guard, self.at)
        if now:
            return Reason.HELD_BY_ANOTHER
        return Reason.BOOKED_SOON if soon else None

    def uninstall_blocker(self, spell: IdleSpell) -> Reason | None:
        """Why the model of an enforced spell must not be uninstalled now; None: it may be."""
        model = self.fleet.by_id.get(spell.model_id)
        if self.used_since(spell):
            return Reason.USED_AGAIN
        return self.uninstall_conflict(model, spell.user.id) if model else Reason.MODEL_GONE

    def record(
        self, key: BookingKey, decision: Decision, reason: Reason, numbers: Numbers | None = None
    ) -> DecisionRecord:
        """The record of a decision about one booking."""
        booking, spell = self.active_bookings.get(key), self.prior.spells.get(key)
        name = booking.model.name if booking else spell.model_name if spell else ""
        return DecisionRecord(self.at, key[0], name, key[1], decision, reason, numbers or {})

    def verdict_record(self, key: BookingKey, verdict: Verdict) -> DecisionRecord:
        """The record of a verdict, with the numbers that led to it."""
        spell = self.prior.spells.get(key)
        used = self.observation.memory.usage.get(self.record(key, verdict.decision, verdict.reason).model_name)
        row = self.policy.idle_rule.mode is UnbookingMode.IN_ROW
        moments = {
            "idle_since_at": verdict.idle_since,
            "not_before_at": verdict.not_before,
            "delivered_at": spell.delivered_at if spell else None,
            "cancelled_at": self.at if verdict.decision is Decision.CANCEL else None,
            "used_at": used.last_used_at if used else None,
        }
        numbers: dict[str, float | int | str] = {
            "idle_seconds": verdict.idle.total_seconds(),
            "slots": len(verdict.slots),
            "mode": "in row" if row else "in all",
        }
        numbers |= {name: moment.timestamp() for name, moment in moments.items() if moment is not None}
        return self.record(key, verdict.decision, verdict.reason, numbers)


def take_snapshot(
    policy: Policy,
    fleet: Fleet,
    bookings: Bookings,
    scrapes: Sequence[Scrape],
    memory: Memory,
    prior: PriorState,
    at: datetime,
    only: BookingKey | None = None,
) -> Snapshot:
    """The snapshot at `at`; `memory` is what the last tick remembered.

    With `only`, it has the active bookings of that user and no other.
    """
    observation = fold(memory, scrapes, fleet.replicas_by_name.keys(), at, policy.window, between_ticks=True)
    active = {
        (booking.model.id, booking.user.id): booking
        for booking in active_bookings(fleet, bookings, policy.idle_rule.row_gap, at, only[1] if only else None)
    }
    return Snapshot(at, policy, fleet, bookings, observation, prior, active, scrapes, memory)
