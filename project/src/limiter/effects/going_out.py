"""A warning as it goes out, perhaps long after it was written: with the deadline and the address of that moment."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from limiter.clients.event_wire import time_view
from limiter.db.outbox import WARNING, Event


def as_it_goes_out(event: Event, deadlines: Mapping[UUID, datetime], emails: Mapping[UUID, str]) -> Event:
    """A warning with what these have for its spell; every other event as it is."""
    if event.stage != WARNING or event.spell_id is None:
        return event
    deadline, email, body = deadlines.get(event.spell_id), emails.get(event.spell_id), event.body
    if deadline is not None:
        body = body | {"reservation": body["reservation"] | {"cancel_not_before": time_view(deadline)}}
    if email is not None:
        body = body | {"user": body["user"] | {"email": email}}
    return event if body is event.body else replace(event, body=body)


def whole_second(at: datetime) -> datetime:
    """The moment, rounded up to a whole second: a confirmation that takes less than the rest changes nothing."""
    return at if at.microsecond == 0 else at.replace(microsecond=0) + timedelta(seconds=1)
