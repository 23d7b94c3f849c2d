"""The events for users, as the Notificator reads them, and the addresses they go to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.clients.event_wire import (
    IdleReservation,
    ReservationNoUse,
    ReservationStartedReminder,
    Stage,
    already_gone,
    listed,
    reminder_id,
    time_view,
)
from limiter.db import contacts, outbox
from limiter.db.outbox import Event
from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.address import is_address
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.reservations import Reservation, Slot, User

WARNING: Final = outbox.WARNING
WITHDRAWN: Final = "withdrawn"
CANCELLED: Final = "cancelled"
STARTED = "started"
OVER = ("booking_gone", "nothing_left", "model_gone")  # closing reasons that a cancelling would leave behind


@dataclass(frozen=True)
class Outcome:
    """What was done about a spell."""

    cancelled: Sequence[Slot] = ()
    already_gone: Sequence[Slot] = ()
    failed: Sequence[Slot] = ()
    uninstalled: bool = False
    closing_reason: str | None = None


@dataclass(frozen=True)
class EventWriter:
    """Writes events into the outbox, in the transaction of the change they tell of."""

    no_use_key: str
    deployed_key: str
    email_template: str
    dry_run: bool

    async def address(self, connection: AsyncConnection, user: User) -> str | None:
        """The user's address, as learned, or else by the template; None if neither is there."""
        return (await self.addresses(connection, [user])).get(user.id)

    async def addresses(self, connection: AsyncConnection, users: Collection[User]) -> dict[UUID, str]:
        """The same of several users, without those of whom there is none."""
        made = {user.id: self.email_template.replace("{user_name}", user.name) for user in users}
        return {id: email for id, email in made.items() if is_address(email)} | await contacts.emails(connection, made)

    async def no_use(
        self, connection: AsyncConnection, spell: IdleSpell, stage: Stage, email: str, now: datetime, outcome: Outcome
    ) -> None:
        """Write one event of an idle spell; its `message_id` is made of the spell and of what it says."""
        body: dict[str, Any] = dict(no_use_body(spell, stage, email, now, outcome))
        if stage != WARNING and (named := await outbox.named_slots(connection, spell.id)) is not None:
            body["reservation"] |= {"slots_at_risk": named}  # some may have been moved since it was said
        event = Event(uuid5(spell.id, _said(spell, stage, outcome)), stage, self.no_use_key, body, spell.id)
        await outbox.put(connection, event, dry_run=spell.dry_run)

    async def started(
        self, connection: AsyncConnection, booking: ActiveBooking, reservation: Reservation, email: str, now: datetime
    ) -> None:
        """Write that the model a user booked runs now."""
        body = dict(started_body(booking, reservation, email, now))
        id = reminder_id(booking.model.id, reservation.id)
        await outbox.put(connection, Event(id, STARTED, self.deployed_key, body), dry_run=self.dry_run)


def _said(spell: IdleSpell, stage: Stage, outcome: Outcome) -> str:
    """What a user hears but once, also from a database that was put back: the stage, and which part was taken.

    That nothing is left is the same as that all was taken: it may have been ours, and been told. Who drops what he has
    had before then hears of one end only, the true one; but of a part, and later of the rest, he hears both.
    """
    if stage == WITHDRAWN and outcome.closing_reason in OVER:
        return CANCELLED
    taken = {(slot.reservation_id, slot.id) for slot in (*outcome.cancelled, *outcome.already_gone)}
    if stage != CANCELLED or taken == {(slot.reservation_id, slot.id) for slot in spell.named}:
        return stage
    return " ".join((stage, "part", *chain.from_iterable(sorted(taken))))


def no_use_body(spell: IdleSpell, stage: Stage, email: str, now: datetime, outcome: Outcome) -> ReservationNoUse:
    """What an event of an idle spell says."""
    return {
        "event_version": "1.0",
        "event_type": "reservation.no_use",
        "occurred_at": time_view(now),
        "user": {"id": str(spell.user.id), "email": email},
        "reservation": _reservation(spell, stage, now, outcome),
    }


def started_body(
    booking: ActiveBooking, reservation: Reservation, email: str, now: datetime
) -> ReservationStartedReminder:
    """What the event says that a user's booked model runs now."""
    return {
        "event_version": "1.0",
        "event_type": "models.deployed.successfully",
        "occurred_at": time_view(now),
        "user_id": str(booking.user.id),
        "user_name": booking.user.name,
        "user_email": email,
        "model_ids": [str(booking.model.id)],
        "model_names": [booking.model.name],
        "reservation_ids": [reservation.id],
    }


def _reservation(spell: IdleSpell, stage: Stage, now: datetime, outcome: Outcome) -> IdleReservation:
    return {
        "id": spell.slot.reservation_id,
        "model_id": str(spell.model_id),
        "model_name": spell.model_name,
        "slot": {"id": spell.slot.id, "start": time_view(spell.slot.start), "end": time_view(spell.slot.end)},
        "stage": stage,
        "idle_since": time_view(spell.idle_since),
        "idle_seconds": int((now - spell.idle_since).total_seconds()),
        "cancel_not_before": time_view(spell.not_before),
        "slots_at_risk": [listed(slot) for slot in spell.named],
        "closing_reason": outcome.closing_reason,
        "cancelled_slots": [
            *(listed(slot) for slot in outcome.cancelled),
            *(already_gone(slot) for slot in outcome.already_gone),
        ],
        "failed_slots": [listed(slot) for slot in outcome.failed],
        "uninstalled": outcome.uninstalled,
    }


def warned_of(events: Collection[Event]) -> set[UUID]:
    """The spells whose warning is among these events."""
    return {event.spell_id for event in events if event.stage == WARNING and event.spell_id is not None}
