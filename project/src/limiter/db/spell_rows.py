"""An idle spell as its row, and back."""

from typing import Any

from limiter.domain.command import Command
from limiter.domain.decision import Reason
from limiter.domain.idle_spell import IdleSpell, SpellState, Step
from limiter.domain.reservations import Slot, User


def spell_of(row: Any, steps: tuple[Step, ...] = (), uninstall: Command | None = None) -> IdleSpell:
    """The spell that a row stands for; its steps and its command have rows of their own."""
    return IdleSpell(
        id=row.id,
        model_id=row.model_id,
        model_name=row.model_name,
        user=User(row.user_id, row.user_name),
        state=SpellState(row.state),
        idle_since=row.idle_since,
        opened_at=row.opened_at,
        not_before=row.not_before,
        slot=Slot(row.slot_start, row.slot_end, row.slot_id, row.reservation_id),
        delivered_at=row.delivered_at,
        dry_run=row.dry_run,
        steps=steps,
        uninstall=uninstall,
        stopped_for=Reason(row.stopped_for) if row.stopped_for else None,
        enforcing_at=row.enforcing_at,
        settled_at=row.settled_at,
    )


def values_of(new: IdleSpell, reason: Reason) -> dict[str, Any]:
    """The row of a new spell."""
    return {
        "id": new.id,
        "model_id": new.model_id,
        "model_name": new.model_name,
        "user_id": new.user.id,
        "user_name": new.user.name,
        "state": new.state,
        "reason": reason,
        "idle_since": new.idle_since,
        "opened_at": new.opened_at,
        "not_before": new.not_before,
        "delivered_at": new.delivered_at,
        "reservation_id": new.slot.reservation_id,
        "slot_id": new.slot.id,
        "slot_start": new.slot.start,
        "slot_end": new.slot.end,
        "dry_run": new.dry_run,
    }
