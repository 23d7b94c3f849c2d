"""What really happened in the demo, as the external services, the notificator and the replicas' logs recorded it."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dev.fake_platform.platform import Platform

UNINSTALL_BLOCKERS = ("held_by_another", "booked_soon", "keeps_slot", "bookings_unreadable")


@dataclass
class Facts:
    """What the expectations are checked against; `ended_by` names the replica that ended a model's cancelling."""

    platform: Platform
    events: list[dict[str, Any]] = field(default_factory=list)
    expected_gone: dict[UUID, list[str]] = field(default_factory=dict)
    expected_kept: dict[str, str] = field(default_factory=dict)
    held_back: set[str] = field(default_factory=set)
    ended_by: dict[str, str] = field(default_factory=dict)
    killed: str = ""
    gone_when_killed: int = 0
    exits: dict[str, int] = field(default_factory=dict)

    def stages(self, user: UUID) -> list[str]:
        """The stages of the user's events, in order."""
        return [event["reservation"]["stage"] for event in self.events if event["user"]["id"] == str(user)]

    def event(self, user: UUID, stage: str) -> dict[str, Any]:
        """The reservation in the user's event of that stage; empty if there was none."""
        found = (event["reservation"] for event in self.events if event["user"]["id"] == str(user))
        return next((reservation for reservation in found if reservation["stage"] == stage), {})

    def named(self, user: UUID) -> list[str]:
        """The ids of the slots that the user's warning put at risk."""
        return [slot["slot_id"] for slot in self.event(user, "warning").get("slots_at_risk", [])]

    def cancelled(self, user: UUID) -> list[str]:
        """The ids of the slots that the user was told were cancelled for him, and not gone already."""
        told = self.event(user, "cancelled").get("cancelled_slots", [])
        return [slot["slot_id"] for slot in told if not slot.get("already_gone")]

    def commands(self, model: str) -> list[int | None]:
        """The replicas that the commands asked for, in order; None is an uninstall."""
        return [command.replicas for command in self.platform.commands if command.model_name == model]

    def deleted(self) -> list[str]:
        """The id of each slot that was really deleted, as often as it was."""
        return [slot.id for deletion in self.platform.deletions for slot in deletion.slots]

    def times_deleted(self, user: UUID) -> list[int]:
        """How often each slot that the user is expected to lose was deleted."""
        deleted = self.deleted()
        return [deleted.count(slot) for slot in self.expected_gone[user]]

    def booked(self) -> set[str]:
        """The ids of the slots that are still booked."""
        return {slot.id for reservation in self.platform.reservations for slot in reservation.slots}

    def runs(self, model: str) -> bool:
        return any(running.name == model for running in self.platform.models)

    def note(self, replica: str, line: dict[str, Any]) -> None:
        """Take what the expectations need from a replica's log line."""
        if line.get("event") == "enforced":
            self.ended_by[str(line.get("model"))] = replica
            self.held_back |= {str(line.get("reason"))} & set(UNINSTALL_BLOCKERS)
