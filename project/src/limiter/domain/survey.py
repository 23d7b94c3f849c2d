"""One look at the platform: who holds what, whether it is used, and what is to be done about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from limiter.domain.action import Decision, Reason
from limiter.domain.audit import Finding, Numbers
from limiter.domain.fleet import Fleet, ServedModel, Sighting
from limiter.domain.folding import fold
from limiter.domain.idleness import Facts, Spell, Verdict, judge
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Holding, Slot, UnbookingMode, holdings, other_users_claim
from limiter.domain.usage import Memory, Observation, Scrape

Holder = tuple[UUID, UUID]  # model id, user id


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered besides the readings; `standing` is the last decision about each holder."""

    sightings: Mapping[UUID, Sighting]
    spells: Mapping[Holder, Spell]
    closed: Mapping[Holder, datetime]
    standing: Mapping[Holder, str]
    resumed_at: datetime | None = None


@dataclass(frozen=True)
class Survey:
    """Everything one look found, at one moment."""

    at: datetime
    policy: Policy
    fleet: Fleet
    bookings: Bookings
    seen: Observation
    past: Past
    holdings: Mapping[Holder, Holding]
    scrapes: Sequence[Scrape] = ()
    remembered: Memory = field(default_factory=Memory)  # what the scrapes were folded into

    def verdict(self, holder: Holder) -> Verdict | None:
        """What to do about one holder; None if there is neither a hold nor a spell to end."""
        return self.judged(self.holdings.get(holder), self.past.spells.get(holder))

    def judged(self, hold: Holding | None, spell: Spell | None) -> Verdict | None:
        """The verdict on a hold, or on a spell that has lost its hold."""
        if spell is not None and spell.dry_run != self.policy.dry_run:
            return Verdict(Decision.EXPIRE, Reason.MODE_CHANGED)
        if hold is not None:
            return judge(self.policy.idle(hold.model.name), hold, spell, self._facts(hold), self.at)
        reason = self._ending(spell) if spell else None
        return Verdict(Decision.EXPIRE, reason) if reason else None

    def verdict_on(self, spell: Spell) -> Verdict:
        """The verdict on one spell: to wait while it cannot be told whether its hold is over."""
        return self.verdict(spell.holder) or Verdict(Decision.HOLD, Reason.READING_UNKNOWN)

    def _ending(self, spell: Spell) -> Reason | None:
        """Why a spell without a holding is over; None while that cannot be told for sure."""
        if spell.model_id not in self.fleet.by_id:
            return Reason.MODEL_GONE if self.fleet.complete else None
        return Reason.BOOKING_GONE if spell.model_name not in self.bookings.unreadable else None

    def _facts(self, hold: Holding) -> Facts:
        name, holder = hold.model.name, (hold.model.id, hold.user.id)
        sighting = self.past.sightings.get(hold.model.id)
        used = self.seen.memory.usage.get(name)
        measured = self.seen.memory.measured_since
        return Facts(
            known=self.seen.known(name),
            first_seen_at=sighting.first_seen_at if sighting else None,
            measured_since=max(measured, self.at - self.policy.retention) if measured else None,
            used_at=used.last_used_at if used else None,
            resumed_at=self.past.resumed_at,
            closed_at=self.past.closed.get(holder),
            gaps=self.seen.memory.gaps,
            bookings_readable=name not in self.bookings.unreadable,
            freeable=self.uninstall_bar(hold.model, hold.user.id) is None,
        )

    def used_since(self, spell: Spell) -> bool:
        """True if the model was called since the spell's idle time began."""
        used = self.seen.memory.usage.get(spell.model_name)
        return used is not None and used.last_used_at > spell.idle_since

    def uninstall_bar(self, model: ServedModel, user_id: UUID) -> Reason | None:
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

    def end_bar(self, spell: Spell) -> Reason | None:
        """Why the model of an enforced spell must not be uninstalled now; None: it may be."""
        model = self.fleet.by_id.get(spell.model_id)
        if self.used_since(spell):
            return Reason.USED_AGAIN
        return self.uninstall_bar(model, spell.user.id) if model else Reason.MODEL_GONE

    def finding(self, holder: Holder, decision: Decision, reason: Reason, numbers: Numbers | None = None) -> Finding:
        """The audit of a decision about one holder."""
        hold, spell = self.holdings.get(holder), self.past.spells.get(holder)
        name = hold.model.name if hold else spell.model_name if spell else ""
        return Finding(self.at, holder[0], name, holder[1], decision, reason, numbers or {})

    def explained(self, holder: Holder, verdict: Verdict) -> Finding:
        """The audit of a verdict, with the numbers that led to it."""
        spell = self.past.spells.get(holder)
        used = self.seen.memory.usage.get(self.finding(holder, verdict.decision, verdict.reason).model_name)
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
        return self.finding(holder, verdict.decision, verdict.reason, numbers)


@dataclass(frozen=True, slots=True)
class Notes:
    """What one run saw and decided: looks, each with the holder it was taken for, what was done, what was only held."""

    looks: list[tuple[Holder | None, Survey]] = field(default_factory=list)
    acted: list[Finding] = field(default_factory=list)
    held: list[Finding] = field(default_factory=list)
    cancelled: list[tuple[Holder, Slot]] = field(default_factory=list)


def survey(
    policy: Policy,
    fleet: Fleet,
    bookings: Bookings,
    scrapes: Sequence[Scrape],
    memory: Memory,
    past: Past,
    at: datetime,
    only: Holder | None = None,
) -> Survey:
    """A look at `at`, with everything it found put together; `memory` is what the last tick remembered.

    With `only`, nobody else's holds are told.
    """
    seen = fold(memory, scrapes, fleet.replicas_by_name.keys(), at, policy.window, look=True)
    held = {
        (hold.model.id, hold.user.id): hold
        for hold in holdings(fleet, bookings, policy.idle_rule.row_gap, at, only[1] if only else None)
    }
    return Survey(at, policy, fleet, bookings, seen, past, held, scrapes, memory)
