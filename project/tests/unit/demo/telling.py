"""What the services and the notificator would record, made by hand."""

from typing import Any
from uuid import UUID

from dev.demo.facts import Facts
from dev.fake_platform.platform import Deletion


def event(
    user: UUID,
    stage: str,
    *slots: str,
    uninstalled: bool = False,
    reason: str | None = None,
    already_gone: bool = False,
) -> dict[str, Any]:
    """A ReservationNoUse event, as much of it as the demo reads; `slots` are at risk or cancelled."""
    views = [{"slot_id": slot} | ({"already_gone": True} if already_gone else {}) for slot in slots]
    reservation = {"stage": stage, "uninstalled": uninstalled, "model_name": "m", "closing_reason": reason}
    lists = {"slots_at_risk": views if stage == "warning" else [], "cancelled_slots": []}
    lists |= {"cancelled_slots": views} if stage == "cancelled" else {}
    return {"user": {"id": str(user), "email": "u@example.org"}, "reservation": reservation | lists}


def delete(facts: Facts, *slot_ids: str) -> None:
    """Take slots away as the booking service does."""
    for booked in facts.platform.reservations:
        gone = tuple(slot for slot in booked.slots if slot.id in slot_ids)
        booked.slots = [slot for slot in booked.slots if slot not in gone]
        for slot in gone:
            deletion = Deletion(0.0, booked.id, slot.id, booked.user, booked.model_name, (slot,))
            facts.platform.deletions.append(deletion)
