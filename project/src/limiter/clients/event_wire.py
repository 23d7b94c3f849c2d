"""The events as the Notificator reads them; `docs/asyncapi.yaml` is made of these types."""

from datetime import datetime
from typing import Annotated, Literal, NotRequired
from uuid import UUID, uuid5

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from limiter.domain.idle_spell import CLOSING_REASONS
from limiter.domain.reservations import Slot

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Stage = Literal["warning", "withdrawn", "cancelled"]
ClosingReason = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(set(CLOSING_REASONS.values()))})]


class ListedSlot(TypedDict):
    """A booked slot in a list."""

    reservation_id: str
    slot_id: str
    start: Time
    end: Time


class CancelledSlot(ListedSlot):
    """A slot that is not booked any more."""

    # Which of the two it was, nobody can tell: a DELETE may be carried out though its answer is lost.
    already_gone: NotRequired[
        Annotated[
            Literal[True], Field(description="gone before: by somebody else, or by a DELETE of ours without an answer")
        ]
    ]


class EventUser(TypedDict):
    """Whom to write to."""

    id: Id
    email: str


class CurrentSlot(TypedDict):
    """The slot that ran when the warning was made."""

    id: str
    start: Time
    end: Time


class IdleReservation(TypedDict):
    """What is unused, what is at risk, and what was done."""

    id: str
    model_id: Id
    model_name: str
    slot: CurrentSlot
    stage: Stage
    idle_since: Time
    idle_seconds: Annotated[int, Field(description="seconds from idle_since to occurred_at")]
    cancel_not_before: Annotated[Time, Field(description="no slot is cancelled before this moment")]
    slots_at_risk: Annotated[list[ListedSlot], Field(description="as the warning named them: no other is cancelled")]
    closing_reason: Annotated[ClosingReason | None, Field(description="why a warning was withdrawn, else null")]
    cancelled_slots: Annotated[list[CancelledSlot], Field(description="empty before the stage cancelled")]
    failed_slots: Annotated[list[ListedSlot], Field(description="not cancelled: refused, over, or another user's")]
    uninstalled: bool


class ReservationNoUse(TypedDict):
    """A booked model is not used: a warning, and later the one event that closes it, withdrawn or cancelled."""

    event_version: Literal["1.0"]
    event_type: Literal["reservation.no_use"]
    occurred_at: Time
    user: EventUser
    reservation: IdleReservation


class ReservationStartedReminder(TypedDict):
    """A booked model runs now; by us only with DEPLOYED_REMINDER_ENABLED, and only if nobody else has said so."""

    event_version: Literal["1.0"]
    event_type: Literal["models.deployed.successfully"]
    occurred_at: Time
    user_id: Id
    user_name: str
    user_email: str
    model_ids: list[Id]
    model_names: list[str]
    reservation_ids: list[str]


def reminder_id(model_id: UUID, reservation_id: str) -> UUID:
    """The `message_id` of our own reminder, by which we know it when it comes back to us."""
    return uuid5(model_id, reservation_id)


def time_view(time: datetime) -> str:
    return time.isoformat()


def listed(slot: Slot) -> CancelledSlot:
    """A slot as the Notificator reads it in any of the lists."""
    return {
        "reservation_id": slot.reservation_id,
        "slot_id": slot.id,
        "start": time_view(slot.start),
        "end": time_view(slot.end),
    }


def already_gone(slot: Slot) -> CancelledSlot:
    """A slot that was gone before: by somebody else, or by a DELETE of ours whose answer was lost."""
    return {**listed(slot), "already_gone": True}
