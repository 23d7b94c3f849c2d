"""The verdict on one booking, and the idle spell that a warning opens."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell, SpellState, Step, StepState
from limiter.domain.reservations import Slot


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one booking, and the numbers that led to it; `slots` are those at risk."""

    decision: Decision
    reason: Reason
    idle_since: datetime | None = None
    idle: timedelta = timedelta()
    not_before: datetime | None = None
    slots: tuple[Slot, ...] = ()


UNKNOWN = Verdict(Decision.HOLD, Reason.READING_UNKNOWN)


def open_spell(
    id: UUID, booking: ActiveBooking, verdict: Verdict, now: datetime, *, delivered: bool, dry_run: bool
) -> IdleSpell:
    """The spell that a warning begins; in a dry run nothing is delivered, yet the timeline goes on as if it were."""
    assert booking.current is not None
    assert verdict.idle_since is not None
    assert verdict.not_before is not None
    warned = delivered or dry_run
    return IdleSpell(
        id=id,
        model_id=booking.model.id,
        model_name=booking.model.name,
        user=booking.user,
        state=SpellState.WARNED if warned else SpellState.WARNING_PENDING,
        idle_since=verdict.idle_since,
        opened_at=now,
        not_before=verdict.not_before,
        slot=booking.current,
        delivered_at=now if warned else None,
        dry_run=dry_run,
        steps=tuple(Step(slot, StepState.NAMED) for slot in verdict.slots),
    )
