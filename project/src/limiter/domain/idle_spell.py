"""An idle spell: one user's warning about one booked model, from its opening to its one closing.

A spell goes warning_pending -> warned -> enforcing -> enforced; or it ends as withdrawn. Only the slots that its
warning named are ever cancelled, and nobody is cancelled before `cancel_not_before`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from limiter.domain.command import Command
from limiter.domain.decision import Reason
from limiter.domain.reservations import Bookings, Reservation, Slot, User


class SpellState(StrEnum):
    """Where an idle spell stands; the last two are ends."""

    WARNING_PENDING = "warning_pending"
    WARNED = "warned"
    ENFORCING = "enforcing"
    ENFORCED = "enforced"
    WITHDRAWN = "withdrawn"


OF_ANOTHER_MODEL = "booked of another model now"  # why a named slot is left to its user
OPEN_STATES = (SpellState.WARNING_PENDING, SpellState.WARNED, SpellState.ENFORCING)
_WITHDRAWN = "a call, a keep, an exemption, an operator, or nothing is left"

# Every arrow and its cause; the store moves a spell along these only.
ARROWS: dict[SpellState, dict[SpellState, str]] = {
    SpellState.WARNING_PENDING: {
        SpellState.WARNED: "the broker confirmed the warning",
        SpellState.WITHDRAWN: _WITHDRAWN,
    },
    SpellState.WARNED: {
        SpellState.ENFORCING: "the deadline passed without a call",
        SpellState.WITHDRAWN: _WITHDRAWN,
    },
    SpellState.ENFORCING: {
        SpellState.ENFORCED: "every step has ended, and the user is told",
        SpellState.WITHDRAWN: "the cancelling ended before anything was taken",
    },
}

# What a withdrawn event says of the reason.
CLOSING_REASONS = {
    Reason.USED_AGAIN: "used",
    Reason.KEPT: "kept",
    Reason.EXEMPT: "exempt",
    Reason.BOOKING_GONE: "booking_gone",
    Reason.NOTHING_TO_CANCEL: "nothing_left",
    Reason.MODEL_GONE: "model_gone",
    Reason.MODE_CHANGED: "mode_changed",
    Reason.BY_OPERATOR: "by_operator",
}


def closing_reason(reason: Reason) -> str:
    """The word of a withdrawn event; what only kept the model from being uninstalled means that nothing is left."""
    return CLOSING_REASONS.get(reason, "nothing_left")


class StepState(StrEnum):
    """Where the cancelling of one slot stands; the last four are ends."""

    NAMED = "named"  # the warning names the slot
    PLANNED = "planned"  # the deadline has passed, and the slot is still booked
    DONE = "done"
    ALREADY_GONE = "already_gone"  # by somebody else, or by a DELETE whose answer was lost
    FAILED = "failed"  # the booking service refuses, or it is over, or another user's by now
    STOPPED = "stopped"  # the cancelling was ended before its turn came


OPEN_STEPS = (StepState.NAMED, StepState.PLANNED)


@dataclass(frozen=True, slots=True)
class Step:
    """The cancelling of one slot; after a refusal it is not tried again before `next_try_at`.

    A DELETE of it whose answer is not known may still be carried out until `in_flight_until`.
    """

    slot: Slot
    state: StepState
    attempts: int = 0
    next_try_at: datetime | None = None
    in_flight_until: datetime | None = None

    @property
    def is_unsettled(self) -> bool:
        """Whether a DELETE of it was sent of which it is not recorded how it ended: the slot may be gone."""
        return self.state is StepState.PLANNED and self.attempts > 0

    def is_in_flight(self, at: datetime) -> bool:
        """Whether a DELETE of it whose answer is not known may still be carried out."""
        return self.in_flight_until is not None and at < self.in_flight_until


@dataclass(frozen=True, slots=True)
class IdleSpell:
    """One user's unused booking of one model, from the warning on.

    `slot` is the one that ran when the warning was made, `steps` are the slots that it puts at risk and what became of
    them. `not_before` is the earliest moment of the cancelling as the warning says it. `stopped_for` is why the
    cancelling was ended before its end, `settled_at` when its last step ended, `uninstall` the latest command for it.
    """

    id: UUID
    model_id: UUID
    model_name: str
    user: User
    state: SpellState
    idle_since: datetime
    opened_at: datetime
    not_before: datetime
    slot: Slot
    delivered_at: datetime | None = None
    dry_run: bool = False
    steps: tuple[Step, ...] = ()
    uninstall: Command | None = None
    stopped_for: Reason | None = None
    enforcing_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def key(self) -> tuple[UUID, UUID]:
        """Whose spell it is: the model's id and the user's."""
        return (self.model_id, self.user.id)

    def concerns(self, reservation: Reservation) -> bool:
        """Whether the reservation is of this model and user, as it is now."""
        of, name = reservation.model_id, reservation.model_name
        return reservation.user.id == self.user.id and (of == self.model_id if of else name == self.model_name)

    @property
    def named(self) -> tuple[Slot, ...]:
        """The slots that the warning names."""
        return tuple(step.slot for step in self.steps)

    def slots(self, *states: StepState) -> tuple[Slot, ...]:
        """The named slots whose step is in one of these states."""
        return tuple(step.slot for step in self.steps if step.state in states)

    def is_in_flight(self, slots: Collection[Slot], at: datetime) -> bool:
        """Whether a DELETE of one of the slots may still be carried out."""
        return any(step.is_in_flight(at) for step in self.steps if step.slot in slots)


def as_booked(spell: IdleSpell, bookings: Bookings) -> IdleSpell:
    """The spell with what may still be cancelled as it is booked now: a slot that was moved keeps its ids."""
    left = {step.slot.reservation_id for step in spell.steps if step.state in OPEN_STEPS}
    found = (bookings.by_id.get(id) for id in left)
    booked = {(one.id, slot.id): slot for one in found if one and spell.concerns(one) for slot in one.slots}

    def now(step: Step) -> Step:
        slot = booked.get((step.slot.reservation_id, step.slot.id), step.slot)
        return step if step.state not in OPEN_STEPS or slot == step.slot else replace(step, slot=slot)

    steps = tuple(map(now, spell.steps))
    return spell if steps == spell.steps else replace(spell, steps=steps)


def booked_elsewhere(spell: IdleSpell, bookings: Bookings) -> tuple[Slot, ...]:
    """The named slots that their user still has, but of another model: they are not this spell's any more."""
    return tuple(
        slot
        for slot in spell.named
        if (now := bookings.by_id.get(slot.reservation_id)) is not None
        and now.user.id == spell.user.id
        and not spell.concerns(now)
        and any(one.id == slot.id for one in now.slots)
    )


def planned_steps(
    steps: Iterable[Step], left: Collection[Slot], elsewhere: Collection[Slot], now: datetime
) -> tuple[Step, ...]:
    """The steps when the deadline has passed: what is left is planned, the rest is over, of another model, or gone."""

    ids = {(slot.reservation_id, slot.id) for slot in left}

    def state(step: Step) -> StepState:
        if (step.slot.reservation_id, step.slot.id) in ids:
            return StepState.PLANNED
        return StepState.STOPPED if step.slot.end <= now or step.slot in elsewhere else StepState.ALREADY_GONE

    return tuple(replace(step, state=state(step)) for step in steps)
