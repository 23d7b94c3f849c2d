"""How an idle spell that was enforced is closed: what its user is told, and what is recorded."""

from dataclasses import dataclass
from datetime import datetime

from limiter.domain.audit import DecisionRecord, Numbers
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell, StepState
from limiter.domain.reservations import Slot


@dataclass(frozen=True, slots=True)
class Tell:
    """Close the spell and tell its user what was cancelled; `reason` is why the rest, or the model, was left alone."""

    cancelled: tuple[Slot, ...]
    already_gone: tuple[Slot, ...]
    failed: tuple[Slot, ...]
    uninstalled: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Close:
    """Close the spell and tell its user that the warning is withdrawn: nothing was taken."""

    reason: Reason


def what_was_done(spell: IdleSpell, reason: Reason, *, uninstalled: bool = False) -> Tell:
    """What the user is told of a spell that is closed now."""
    return Tell(
        cancelled=spell.slots(StepState.DONE),
        already_gone=spell.slots(StepState.ALREADY_GONE),
        failed=spell.slots(StepState.FAILED),
        uninstalled=uninstalled,
        reason=reason,
    )


def is_told(spell: IdleSpell, tell: Tell) -> bool:
    """Whether anything was taken or refused, so that more is to be told than a withdrawal.

    A slot that was gone after a DELETE of ours counts: its answer may have been lost.
    """
    gone = any(step.state is StepState.ALREADY_GONE and step.attempts for step in spell.steps)
    return bool(tell.cancelled or tell.failed or tell.uninstalled or gone)


def hours_freed(spell: IdleSpell, tell: Tell) -> tuple[float, float]:
    """Hours of the cancelled slots from the cancelling on, and of replicas: of a model uninstalled with them."""
    since = spell.enforcing_at or spell.not_before
    slots = sum(max(0.0, (slot.end - max(slot.start, since)).total_seconds()) for slot in tell.cancelled) / 3600
    replicas = spell.uninstall.replicas if tell.uninstalled and spell.uninstall else None
    return slots, slots * (replicas or 0)


def counts(spell: IdleSpell) -> dict[str, float | int | str]:
    """How many slots a spell names, and how many were cancelled and refused."""
    done, failed = spell.slots(StepState.DONE), spell.slots(StepState.FAILED)
    return {"slots": len(spell.steps), "done": len(done), "failed": len(failed)}


def closing_records(spell: IdleSpell, step: Tell | Close, at: datetime) -> list[DecisionRecord]:
    """What is recorded of a closing, beside the decision to cancel: what did not go as decided, and why."""
    if isinstance(step, Close):
        return [spell_record(spell, Decision.WITHDRAW, step.reason, at)]
    if spell.stopped_for is not None or step.failed:
        return [spell_record(spell, Decision.CANCEL, spell.stopped_for or Reason.REFUSED, at, counts(spell))]
    if not step.uninstalled and step.reason is not Reason.DEADLINE_PASSED:
        return [spell_record(spell, Decision.HOLD, step.reason, at)]
    return []


def spell_record(
    spell: IdleSpell, decision: Decision, reason: Reason, at: datetime, numbers: Numbers | None = None
) -> DecisionRecord:
    """The record of a decision about an open spell."""
    return DecisionRecord(at, spell.model_id, spell.model_name, spell.user.id, decision, reason, numbers or {})
