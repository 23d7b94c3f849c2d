"""Turns what the services and the notificator recorded into the checker's history."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from dev.chaos.history import Asked, Attempt, Deleted, History, Named, Published, Read, Received
from dev.chaos.settings import HTTP_TIMEOUT, SAGA_TIMEOUT
from dev.chaos.workload import UserBooking
from dev.fake_platform.platform import Platform

SLOT_PATH = re.compile(r"/reservations/([^/]+)(?:/slot-usage/([^/]+))?$")
SAGA_ID = re.compile(r"while saga ([0-9a-f-]{36})")
REFUSALS = (401, 403, 408, 409, 422, 425, 429)


def unix(text: str) -> float:
    """A moment of an event in Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def received(at: float, message_id: str, body: Mapping[str, Any]) -> Received:
    """A ReservationNoUse event as it arrived."""
    reservation = body["reservation"]
    cancelled = reservation["cancelled_slots"]
    return Received(
        at=at,
        message_id=message_id,
        user=body["user"]["id"],
        model=reservation["model_name"],
        stage=reservation["stage"],
        spell=(reservation["id"], reservation["idle_since"]),
        named=tuple(
            Named(slot["slot_id"], slot["reservation_id"], unix(slot["end"])) for slot in reservation["slots_at_risk"]
        ),
        not_before=unix(reservation["cancel_not_before"]),
        cancelled=tuple(slot["slot_id"] for slot in cancelled if not slot.get("already_gone")),
        already_gone=tuple(slot["slot_id"] for slot in cancelled if slot.get("already_gone")),
    )


def deletions(platform: Platform) -> tuple[Deleted, ...]:
    """Every slot that the booking service deleted for us."""
    return tuple(
        Deleted(gone.at, gone.user.id, gone.model_name, slot.id, gone.reservation_id)
        for gone in platform.deletions
        for slot in gone.slots
    )


def reads(platform: Platform) -> tuple[Read, ...]:
    """Every GET of a single reservation."""
    calls = (call for call in platform.history if call.service == "booking" and call.method == "GET")
    return tuple(Read(call.at, found[1]) for call in calls if (found := SLOT_PATH.search(call.path)) and not found[2])


def attempts(platform: Platform, bookings: Mapping[str, UserBooking]) -> tuple[Attempt, ...]:
    """Every DELETE that reached the booking service; `bookings` is by the reservation's id."""
    made = []
    for call in platform.history:
        found = SLOT_PATH.search(call.path)
        if call.service != "booking" or call.method != "DELETE" or found is None:
            continue
        owner = bookings[found[1]]
        refused = call.handled is None and call.status in REFUSALS
        made.append(Attempt(call.at, owner.user, owner.model, found[1], found[2], refused))
    return tuple(made)


def commands(platform: Platform) -> tuple[Asked, ...]:
    """Every accepted command, and until when no other may follow it.

    A saga that the dispatcher has forgotten may go on unseen for as long as sagas may take; that is counted from the
    sending, which may be earlier than the arrival by a call's timeout.
    """
    asked = []
    for sent in platform.commands:
        saga = platform.sagas.get(sent.saga_id)
        until: float | None = sent.at + SAGA_TIMEOUT - HTTP_TIMEOUT
        if saga is not None:
            until = None if saga.outcome == "stuck" else saga.ends_at
        asked.append(Asked(sent.at, sent.model_name, sent.replicas, until))
    return tuple(asked)


def violations(platform: Platform, history: History) -> list[str]:
    """What the dispatcher says was wrong, but for a command beside one that the database has forgotten."""
    return [
        f"violation: {violation}"
        for violation in platform.violations
        if not (found := SAGA_ID.search(violation)) or _is_known(platform, UUID(found[1]), history)
    ]


def _is_known(platform: Platform, saga_id: UUID, history: History) -> bool:
    return all(history.known(sent.at) for sent in platform.commands if sent.saga_id == saga_id)


def published(rows: Iterable[Any]) -> tuple[Published, ...]:
    """The outbox's rows that are marked as published."""
    return tuple(Published(str(row.message_id)) for row in rows)
