"""A warning as it goes out, perhaps long after it was written: with the deadline and the address of that moment."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from limiter.clients.event_wire import time_view
from limiter.db.outbox import WARNING, Event
from limiter.domain.idle_spell import IdleSpell, SpellState
from limiter.domain.reservations import Slot


def over_by(spell: IdleSpell, deadline: datetime) -> tuple[Slot, ...]:
    """The named slots of a spell whose warning has not gone out yet that are no more at risk, as they end before."""
    if spell.state is not SpellState.WARNING_PENDING:
        return ()  # what closes it was written, and says what it named
    return tuple(slot for slot in spell.named if slot.end <= deadline)


def as_it_goes_out(
    event: Event,
    deadlines: Mapping[UUID, datetime],
    emails: Mapping[UUID, str],
    over: Mapping[UUID, Collection[Slot]],
) -> Event:
    """A warning with what these have for its spell, and without its slots that are over; every other event as it is."""
    if event.stage != WARNING or event.spell_id is None:
        return event
    deadline, email, body = deadlines.get(event.spell_id), emails.get(event.spell_id), event.body
    if gone := {(slot.reservation_id, slot.id) for slot in over.get(event.spell_id, ())}:
        named = body["reservation"]["slots_at_risk"]
        left = [slot for slot in named if (slot["reservation_id"], slot["slot_id"]) not in gone]
        body = body | {"reservation": body["reservation"] | {"slots_at_risk": left}}
    if deadline is not None:
        body = body | {"reservation": body["reservation"] | {"cancel_not_before": time_view(deadline)}}
    if email is not None:
        body = body | {"user": body["user"] | {"email": email}}
    return event if body is event.body else replace(event, body=body)


def whole_second(at: datetime) -> datetime:
    """The moment, rounded up to a whole second: a confirmation that takes less than the rest changes nothing."""
    return at if at.microsecond == 0 else at.replace(microsecond=0) + timedelta(seconds=1)
