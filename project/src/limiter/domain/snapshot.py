"""One snapshot of the platform: who has booked what, whether it is used, and what is to be done about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from uuid import UUID

from limiter.domain.active_bookings import ActiveBooking, UserSlots, slots_by_user
from limiter.domain.active_bookings import BookingKey as BookingKey
from limiter.domain.audit import DecisionRecord, Numbers
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.folding import fold
from limiter.domain.idle_rule import IdleRule
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.idleness import Facts, judge, judge_spell
from limiter.domain.keep import Keep, by_model, keep_ended_at, kept
from limiter.domain.policy import Policy
from limiter.domain.renaming import with_former_keeps, with_former_use
from limiter.domain.reservations import Bookings, UnbookingMode, barred, other_users_claim, own_slot_soon
from limiter.domain.usage import Memory, Observation, Scrape
from limiter.domain.verdict import UNKNOWN, Verdict


@dataclass(frozen=True, slots=True)
class PriorState:
    """What is remembered besides the readings; `standing` is the last decision about each booking."""

    scaling_states: Mapping[UUID, ScalingState]
    spells: Mapping[BookingKey, IdleSpell]
    closed: Mapping[BookingKey, datetime]
    standing: Mapping[BookingKey, str]
    resumed_at: datetime | None = None
    keeps: Sequence[Keep] = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything known of the platform at one moment."""

    at: datetime
    policy: Policy
    fleet: Fleet
    bookings: Bookings
    observation: Observation
    prior: PriorState
    users: Mapping[BookingKey, UserSlots]
    scrapes: Sequence[Scrape] = ()
    remembered: Memory = field(default_factory=Memory)  # what the scrapes were folded into

    @cached_property
    def active_bookings(self) -> Mapping[BookingKey, ActiveBooking]:
        """The bookings of which a slot, or a short pause between two slots of a row, runs now."""
        return {key: booking for key, slots in self.users.items() if (booking := slots.at(self.at)).row}

    @cached_property
    def _keeps(self) -> Mapping[str, Sequence[Keep]]:
        return by_model(self.prior.keeps)

    def booking(self, key: BookingKey) -> ActiveBooking | None:
        """A user's slots of a running model, whether one runs now or not; None if he has none."""
        slots = self.users.get(key)
        return slots.at(self.at) if slots else None

    def verdict(self, key: BookingKey) -> Verdict | None:
        """What to do about one booking; None if it is neither active nor has an open spell."""
        spell, booking = self.prior.spells.get(key), self.active_bookings.get(key)
        if spell is not None:
            return self.verdict_on(spell)
        return None if booking is None else self.judged(key, booking)

    def judged(self, key: BookingKey, booking: ActiveBooking) -> Verdict:
        """What to do about a booking without an open spell."""
        if booking.model.id not in self.fleet.by_id:
            return UNKNOWN  # it is only known as it was
        return judge(self.policy.idle(booking.model.name), booking, self._facts(booking.model, key), self.at)

    def verdict_on(self, spell: IdleSpell) -> Verdict:
        """The verdict on one open spell: to wait while what it depends on is not known."""
        if spell.dry_run != self.policy.dry_run:
            return Verdict(Decision.WITHDRAW, Reason.MODE_CHANGED)
        model = self.fleet.by_id.get(spell.model_id)
        if model is None:
            return Verdict(Decision.WITHDRAW, Reason.MODEL_GONE) if self.fleet.is_gone(spell.model_id) else UNKNOWN
        facts = replace(self._facts(model, spell.key), kept=self.is_kept(spell))
        return judge_spell(self.rule_of(spell), self.booking(spell.key), spell, facts, self.at)

    def _facts(self, model: ServedModel, key: BookingKey) -> Facts:
        name = model.name
        state, memory = self.prior.scaling_states.get(model.id), self.observation.memory
        measured, rule = memory.measured_since, self.policy.idle(name)
        freeable = self.claim_on(model, key[1]) is None
        return Facts(
            known=self.observation.known(name),
            first_seen_at=state.first_seen_at if state else None,
            measured_since=max(measured, self.at - self.policy.retention) if measured else None,
            used_at=self.used_at(name),
            resumed_at=self.prior.resumed_at,
            closed_at=self.prior.closed.get(key),
            keep_ended_at=keep_ended_at(self._keeps.get(name, ()), name, key[1], self.at),
            gaps=memory.gaps,
            bookings_readable=self.bookings.readable(model.id, name),
            freeable=freeable,
            barred=barred(model, key[1], self.bookings, rule.uninstall_guard) if freeable else (),
            kept=kept(self._keeps.get(name, ()), name, key[1], self.at),
        )

    def used_at(self, name: str) -> datetime | None:
        """When a model of this name was last called, at the latest; None if that is not known."""
        used = self.observation.memory.usage.get(name)
        return used.last_used_at if used else None

    def name_of(self, spell: IdleSpell) -> str:
        """The name of the spell's model as it is now; as it was, if the model is not known to run."""
        model = self.fleet.by_id.get(spell.model_id)
        return model.name if model else spell.model_name

    def rule_of(self, spell: IdleSpell) -> IdleRule:
        """The rule that the spell began with; exempt by that name or by the one that its model has now."""
        rule = self.policy.idle(spell.model_name)
        return replace(rule, exempt=True) if self.policy.idle(self.name_of(spell)).exempt else rule

    def used_since(self, spell: IdleSpell) -> bool:
        """True if the model was called since the spell's idle time began, by its name then or now."""
        used = (self.used_at(name) for name in {spell.model_name, self.name_of(spell)})
        return any(at is not None and at > spell.idle_since for at in used)

    def is_kept(self, spell: IdleSpell) -> bool:
        """True if somebody keeps this booking, or did since its idle time began: then that counts anew."""
        names = {spell.model_name, self.name_of(spell)}
        return any(kept(self._keeps.get(name, ()), name, spell.user.id, spell.idle_since) for name in names)

    def claim_on(self, model: ServedModel, user_id: UUID) -> Reason | None:
        """Why the model must not be uninstalled on account of this user; None: it may be."""
        rule = self.policy.idle(model.name)
        if not rule.uninstall or rule.exempt:
            return Reason.EXEMPT
        if not self.bookings.readable(model.id, model.name):
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
        if model is None:
            return Reason.MODEL_GONE
        if own_slot_soon(model, spell.user.id, self.bookings, self.policy.idle(model.name).uninstall_guard, self.at):
            return Reason.KEEPS_SLOT
        return self.claim_on(model, spell.user.id)

    def record(
        self, key: BookingKey, decision: Decision, reason: Reason, numbers: Numbers | None = None
    ) -> DecisionRecord:
        """The record of a decision about one booking."""
        slots, spell = self.users.get(key), self.prior.spells.get(key)
        name = slots.model.name if slots else spell.model_name if spell else ""
        return DecisionRecord(self.at, key[0], name, key[1], decision, reason, numbers or {})

    def verdict_record(self, key: BookingKey, verdict: Verdict) -> DecisionRecord:
        """The record of a verdict, with the numbers that led to it."""
        spell, plain = self.prior.spells.get(key), self.record(key, verdict.decision, verdict.reason)
        moments = {
            "idle_since_at": verdict.idle_since,
            "not_before_at": verdict.not_before,
            "delivered_at": spell.delivered_at if spell else None,
            "cancelled_at": self.at if verdict.decision is Decision.CANCEL else None,
            "used_at": self.used_at(plain.model_name),
        }
        numbers: dict[str, float | int | str] = {
            "idle_seconds": verdict.idle.total_seconds(),
            "slots": len(verdict.slots),
            "mode": "in row" if self.policy.idle(plain.model_name).mode is UnbookingMode.IN_ROW else "in all",
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
    """The snapshot at `at`; `memory` is of the last tick. With `only`, it has the bookings of that user alone."""
    read = fold(memory, scrapes, fleet.replicas_by_name.keys(), at, policy.window, between_ticks=True)
    observation = with_former_use(read, fleet, prior.scaling_states, only=only and only[0])
    prior = replace(prior, keeps=with_former_keeps(prior.keeps, fleet, prior.scaling_states, only and only[0]))
    users = slots_by_user(fleet, bookings if only is None else bookings.of_user(only[1]), policy.row_gap)
    return Snapshot(at, policy, fleet, bookings, observation, prior, users, scrapes, memory)
