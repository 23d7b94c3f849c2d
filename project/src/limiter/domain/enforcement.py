"""What to do next for an idle spell whose deadline has passed: one pure function, for the service and for replays.

Every named slot is cancelled, perhaps the model is uninstalled, then its user is told once what was done. `next_step`
is asked before each step, so that use, an exemption, a keep or a pause ends the rest; all it looks at is recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from limiter.domain.closing import Close, Tell, is_told, what_was_done
from limiter.domain.command import CommandState
from limiter.domain.decision import Reason
from limiter.domain.fleet import ServedModel
from limiter.domain.idle_rule import IdleRule
from limiter.domain.idle_spell import CLOSING_REASONS, OF_ANOTHER_MODEL, IdleSpell, SpellState, Step, StepState
from limiter.domain.reservations import Reservation, Slot


@dataclass(frozen=True, slots=True)
class EnforcementFacts:
    """What is known right before a step.

    `booked` has the reservation of the next step as it is now, None if it is gone. `ended` is why the cancelling must
    end, `waits` why no step may be taken now, `blocker` why the model must not be uninstalled, `command_blocks` why no
    command may be sent for it now.
    """

    at: datetime
    ended: Reason | None = None
    waits: Reason | None = None
    booked: Mapping[str, Reservation | None] = field(default_factory=dict)
    model: ServedModel | None = None
    blocker: Reason | None = None
    command_blocks: Reason | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Send one DELETE: for a whole reservation, or for one slot of it."""

    reservation_id: str
    slots: tuple[Slot, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """Record how these steps end without a call."""

    slots: tuple[Slot, ...]
    state: StepState
    why: str


@dataclass(frozen=True, slots=True)
class Uninstall:
    """Plan and send the uninstall of the model."""

    model: ServedModel


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now; the spell stays as it is."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Stop:
    """End the cancelling of what is left."""

    reason: Reason


NextStep = Delete | Settle | Uninstall | Wait | Stop | Tell | Close


def next_reservation(spell: IdleSpell, at: datetime) -> str | None:
    """The reservation to read afresh: the first of which a step may be taken now, else one that may be gone."""
    ripe = (step for step in spell.steps if is_ripe(step, at))
    tried = (step for step in spell.steps if step.is_unsettled)
    step = next(ripe, None) or next(tried, None)
    return None if step is None else step.slot.reservation_id


def is_ripe(step: Step, at: datetime) -> bool:
    """Whether a step may be taken now, unless it waits after a refusal."""
    return step.state is StepState.PLANNED and (step.next_try_at is None or at >= step.next_try_at)


def next_step(spell: IdleSpell, facts: EnforcementFacts, rule: IdleRule) -> NextStep:
    """What to do next for a spell that is enforced; asked again before each step. Of any other nothing is taken."""
    if spell.state is not SpellState.ENFORCING:
        return Wait(Reason.WARNED_WAITING)
    planned = [step for step in spell.steps if step.state is StepState.PLANNED]
    if planned:
        gone = tuple(step.slot for step in planned if step.is_unsettled and _is_gone(step.slot, facts))
        if gone:
            return Settle(gone, StepState.ALREADY_GONE, "gone after a DELETE whose answer is not known")
        if (ended := spell.stopped_for or facts.ended) is not None:
            return _stop(planned, facts, ended)
        if facts.waits is not None:
            return Wait(facts.waits)
        return _next_slot(spell, planned, facts)
    stays = spell.stopped_for is not None or spell.slots(StepState.FAILED) or not rule.uninstall
    if stays and not _is_uninstalled(spell):
        return _end(spell, uninstalled=False, reason=spell.stopped_for or _plain_reason(spell))
    return _next_of_uninstall(spell, facts, rule)


def _is_uninstalled(spell: IdleSpell) -> bool:
    """Whether the model is gone or may go yet, which is told whatever was changed since."""
    sent = spell.uninstall
    return sent is not None and (sent.unfinished or sent.state is CommandState.COMPLETED)


def _stop(planned: Sequence[Step], facts: EnforcementFacts, reason: Reason) -> Stop | Settle | Wait:
    """End the rest; what may be gone or go yet, because a DELETE of it was sent, is not said to stay before."""
    unsure = [step for step in planned if _may_be_gone(step, facts)]
    if not unsure:
        return Stop(reason)
    stays = tuple(step.slot for step in planned if step not in unsure)
    return Settle(stays, StepState.STOPPED, str(reason)) if stays else Wait(Reason.DELETE_IN_FLIGHT)


def _may_be_gone(step: Step, facts: EnforcementFacts) -> bool:
    return step.is_unsettled and (step.is_in_flight(facts.at) or step.slot.reservation_id not in facts.booked)


def _is_gone(slot: Slot, facts: EnforcementFacts) -> bool:
    """Whether its reservation was read, and has it no more."""
    now = facts.booked.get(slot.reservation_id)
    return slot.reservation_id in facts.booked and (now is None or all(one.id != slot.id for one in now.slots))


def _next_slot(spell: IdleSpell, planned: Sequence[Step], facts: EnforcementFacts) -> NextStep:
    """The first planned step that may be taken now; a reservation goes whole if nothing in it would go unnamed."""
    for step in planned:
        slot = step.slot
        over = slot.end <= facts.at
        if over and not _may_be_gone(step, facts):
            return Settle((slot,), StepState.FAILED, "over before it could be cancelled")
        if over or slot.reservation_id not in facts.booked or not is_ripe(step, facts.at):
            continue
        reservation = facts.booked[slot.reservation_id]
        if reservation is None or _is_gone(slot, facts):
            return Settle((slot,), StepState.ALREADY_GONE, "not booked any more")
        present = {one.id for one in reservation.slots}
        if reservation.user.id != spell.user.id:
            return Settle((slot,), StepState.FAILED, "booked by another user now")
        if not spell.concerns(reservation):
            return Settle((slot,), StepState.STOPPED, OF_ANOTHER_MODEL)
        ripe = [one.slot for one in planned if one.slot.reservation_id == reservation.id and is_ripe(one, facts.at)]
        going = [one for one in ripe if one.id in present and one.end > facts.at]
        if {one.id for one in going} == present:
            return Delete(reservation.id, tuple(going), whole=True)
        return Delete(reservation.id, (slot,), whole=False)
    return Wait(Reason.REFUSED)


def _next_of_uninstall(spell: IdleSpell, facts: EnforcementFacts, rule: IdleRule) -> NextStep:
    """Every named slot is gone: uninstall the model unless somebody needs it, and wait for that only so long."""
    command = spell.uninstall
    if command is not None and command.state is CommandState.COMPLETED:
        return _end(spell, uninstalled=True, reason=Reason.DEADLINE_PASSED)
    if command is not None and command.state is CommandState.DRY_RUN:
        return _end(spell, uninstalled=False, reason=Reason.DEADLINE_PASSED)
    late = facts.at - (spell.settled_at or spell.enforcing_at or facts.at) >= rule.uninstall_tell
    if command is not None and command.unfinished:  # the model may still go, so this is no withdrawal
        return what_was_done(spell, Reason.UNINSTALL_LATE) if late else Wait(Reason.COMMAND_UNFINISHED)
    if facts.ended is not None:
        return _end(spell, uninstalled=False, reason=facts.ended)
    # With no time to wait for it, it is tried all the same.
    if late and (rule.uninstall_tell or command is not None or facts.waits is not None):
        return _end(spell, uninstalled=False, reason=Reason.UNINSTALL_LATE)
    if facts.waits is not None:
        return Wait(facts.waits)
    if facts.blocker is not None or facts.model is None:
        return _end(spell, uninstalled=False, reason=facts.blocker or Reason.MODEL_GONE)
    if facts.command_blocks is not None:
        return Wait(facts.command_blocks)
    return Uninstall(facts.model)


def _end(spell: IdleSpell, *, uninstalled: bool, reason: Reason) -> Tell | Close:
    """Tell what was done, if anything was done or failed; else the warning is withdrawn."""
    tell = what_was_done(spell, reason, uninstalled=uninstalled)
    if is_told(spell, tell):
        return tell
    return Close(reason if reason in CLOSING_REASONS else Reason.NOTHING_TO_CANCEL)


def _plain_reason(spell: IdleSpell) -> Reason:
    return Reason.REFUSED if spell.slots(StepState.FAILED) else Reason.DEADLINE_PASSED
