"""What the fault suite records: events and DELETEs as the checker needs them."""

from uuid import uuid4

from dev.chaos import records
from dev.chaos.history import Attempt, Named
from dev.chaos.settings import HTTP_TIMEOUT, SAGA_SECONDS, SAGA_TIMEOUT
from dev.chaos.workload import UserBooking, Workload
from dev.fake_platform.dispatcher import Command, Saga
from dev.fake_platform.faulty_wire import Exchange
from dev.fake_platform.platform import Platform

SLOT = {"reservation_id": "r1", "slot_id": "s1", "start": "2026-01-01T10:00:00Z", "end": "2026-01-01T11:00:00Z"}
RESERVATION = {
    "id": "r1",
    "model_name": "idle",
    "stage": "cancelled",
    "idle_since": "2026-01-01T09:00:00Z",
    "cancel_not_before": "2026-01-01T10:00:00Z",
    "slots_at_risk": [SLOT, SLOT | {"slot_id": "s2"}],
    "cancelled_slots": [SLOT, SLOT | {"slot_id": "s2", "already_gone": True}],
}


def exchange(path: str, status: int | None, handled: int | None, method: str = "DELETE") -> Exchange:
    return Exchange(5.0, "booking", method, path, {}, None, True, None, handled, status)


def test_an_event_is_recorded_with_what_it_names_and_what_it_tells() -> None:
    event = records.received(7.0, "m1", {"user": {"id": "ann"}, "reservation": RESERVATION})
    end = records.unix("2026-01-01T11:00:00Z")
    assert event.named == (Named("s1", "r1", end), Named("s2", "r1", end))
    assert (event.cancelled, event.already_gone) == (("s1",), ("s2",))
    assert event.not_before == records.unix("2026-01-01T10:00:00Z")


def test_deletes_are_recorded_with_their_user_and_whether_they_were_refused() -> None:
    platform, path = Platform(), "/booking/api/v1/reservations/r1"
    calls = [
        exchange(path, None, None, "GET"),
        exchange(path, 403, None),
        exchange(f"{path}/slot-usage/s1", 204, 204),
        exchange(f"{path}/slot-usage/s2", None, 204),
        exchange(f"{path}/slot-usage/s3", 500, None),
    ]
    platform.history.extend(calls)
    attempts = records.attempts(platform, {"r1": UserBooking("ann", "idle")})
    assert attempts == (
        Attempt(5.0, "ann", "idle", "r1", None, refused=True),
        *(Attempt(5.0, "ann", "idle", "r1", slot) for slot in ("s1", "s2", "s3")),
    )


def test_a_command_is_unfinished_until_its_saga_ends_or_may_be_taken_as_ended() -> None:
    platform = Platform(saga_seconds=SAGA_SECONDS)
    model = platform.add_model("busy")
    ended, prolonged, forgotten = (
        Saga(command.saga_id, command, "upscale", SAGA_SECONDS, "completed")
        for command in (Command(at, "scale", model.id, "busy", 2, uuid4()) for at in (10.0, 20.0, 30.0))
    )
    for saga in (ended, prolonged, forgotten):
        platform.commands.append(saga.command)
        platform.sagas[saga.id] = saga
    platform.prolong(prolonged)
    platform.forget(forgotten, carried_out=False)
    until = 30.0 + SAGA_TIMEOUT - HTTP_TIMEOUT
    assert [asked.until for asked in records.commands(platform)] == [11.0, None, until]


def test_what_is_booked_after_the_warning_lies_in_the_row_and_what_is_given_back_is_recorded() -> None:
    platform = Platform()
    workload = Workload(platform, "amqp://nowhere")
    booking = workload.bookings[platform.reservations[0].id]
    before = sorted(slot.end for slot in booking.reservations[0].slots)
    workload.book_on(booking)
    new = booking.reservations[0].slots[-1]
    assert new.start == before[-2] + 2 < before[-1]
    assert [record.slot for record in workload.booked_on] == [new.id]
    assert workload.give_back(new.id)
    assert not workload.give_back(new.id)
    assert [record.slot for record in workload.given_back] == [new.id]
