"""The list of reservations: all of it or an error, since a missing booking would be somebody's lost slot."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from dev.fake_platform.platform import Fault, Platform
from limiter.clients import flaws
from limiter.clients.booking import Booking
from limiter.clients.errors import ContractBroken, NotAllowed, Rejected, ServiceError, Unavailable
from limiter.domain.reservations import Bookings, Reservation, Slot, User
from limiter.telemetry import Telemetry
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import Crowd, counted, edited

NOW = datetime(2026, 3, 2, 10, 0, 0, 750_000, tzinfo=UTC)
BASE = int(NOW.timestamp())
HOUR = 3600
ANNA = UUID(int=101)


def book(platform: Platform, reservations: int) -> None:
    for number in range(reservations):
        start = BASE + number * HOUR
        platform.add_reservation(ANNA, "anna", f"Model/{number}", [(start, start + HOUR)])


def names(bookings: Bookings) -> list[str]:
    return sorted(reservation.model_name for reservation in bookings.reservations)


MakeBooking = Callable[..., Booking]


@pytest.fixture
def make_booking(make_service: MakeService) -> MakeBooking:
    def make(page_size: int = 1000, lookback: float = HOUR, **changes: Any) -> Booking:
        return Booking(make_service("booking", **changes), page_size, timedelta(seconds=lookback))

    return make


async def test_a_reservation_is_returned_with_all_that_is_known(platform: Platform, make_booking: MakeBooking) -> None:
    slots = [(BASE, BASE + HOUR), (BASE + HOUR, BASE + 2 * HOUR)]
    booked = platform.add_reservation(ANNA, "anna", "Model/1", slots, UUID(int=7))
    found = await make_booking().bookings(NOW)
    wanted = tuple(
        Slot(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC), slot.id, booked.id)
        for (start, end), slot in zip(slots, booked.slots, strict=True)
    )
    assert found.reservations == (Reservation(booked.id, User(ANNA, "anna"), "Model/1", UUID(int=7), wanted),)
    assert found.unreadable == frozenset()


async def test_a_reservation_may_be_of_any_instance(platform: Platform, make_booking: MakeBooking) -> None:
    book(platform, 1)
    assert (await make_booking().bookings(NOW)).reservations[0].model_id is None


async def test_times_are_asked_for_in_whole_seconds(platform: Platform, make_booking: MakeBooking) -> None:
    await make_booking(lookback=HOUR + 0.5).bookings(NOW)
    (request,) = platform.history
    assert request.path == "/booking/api/v1/reservations"
    assert request.query["min_end_time"] == str(BASE - HOUR)
    assert (request.query["page"], request.query["page_size"]) == ("1", "1000")


async def test_what_ended_before_the_lookback_is_not_asked_for(platform: Platform, make_booking: MakeBooking) -> None:
    for end in (BASE - 2 * HOUR, BASE - HOUR, BASE):
        platform.add_reservation(ANNA, "anna", f"{end - BASE}", [(end - HOUR, end)])
    assert names(await make_booking(lookback=HOUR).bookings(NOW)) == ["-3600", "0"]


@pytest.mark.parametrize(("booked", "pages"), [(0, 1), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3), (20, 7)])
async def test_every_page_is_read_once(platform: Platform, make_booking: MakeBooking, booked: int, pages: int) -> None:
    book(platform, booked)
    found = await make_booking(page_size=3).bookings(NOW)
    assert sorted(int(request.query["page"]) for request in platform.history) == list(range(1, pages + 1))
    assert {request.query["page_size"] for request in platform.history} == {"3"}
    assert names(found) == sorted(f"Model/{number}" for number in range(booked))


async def test_pages_are_read_side_by_side_but_not_too_many(platform: Platform, make_booking: MakeBooking) -> None:
    book(platform, 30)
    crowd = Crowd()
    platform.fault("booking", crowd.fault())
    found = await make_booking(page_size=2, concurrency=5).bookings(NOW)
    assert crowd.peak == 5
    assert len(found.reservations) == 30


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(503), Unavailable),
        (Fault.hang(), Unavailable),
        (Fault.truncated(), Unavailable),
        (Fault.status(422), Rejected),
        (Fault.garbage(), ContractBroken),
        (Fault.json({"items": []}), ContractBroken),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
@pytest.mark.parametrize("page", [0, 1, 2])
async def test_a_page_that_cannot_be_read_leaves_no_list(
    platform: Platform, make_booking: MakeBooking, page: int, fault: Fault, error: type[ServiceError]
) -> None:
    book(platform, 6)
    platform.fault("booking", edited(lambda body: None), times=page)
    platform.fault("booking", fault)
    with pytest.raises(error) as caught:
        await make_booking(page_size=2, concurrency=1, timeout=0.1, attempts=2).bookings(NOW)
    assert type(caught.value) is error


async def test_the_first_page_that_fails_ends_the_reading(platform: Platform, make_booking: MakeBooking) -> None:
    book(platform, 6)
    platform.fault("booking", edited(lambda body: None), times=1)
    platform.fault("booking", Fault.status(403), times=1)
    platform.fault("booking", Fault.slow(30))
    with pytest.raises(Rejected):
        await make_booking(page_size=2, timeout=20).bookings(NOW)


async def test_a_page_that_fails_once_is_read_again(platform: Platform, make_booking: MakeBooking) -> None:
    book(platform, 6)
    platform.fault("booking", Fault.reset(), times=2)
    assert len((await make_booking(page_size=2).bookings(NOW)).reservations) == 6


CHANGES: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    lambda body: body | {"items": body["items"][:1]},
    lambda body: body | {"items": []},
    lambda body: body | {"items": [*body["items"], body["items"][0]]},
    lambda body: body | {"items": [body["items"][0]] * 2},
]


@pytest.mark.parametrize("change", CHANGES, ids=["fewer", "none", "more", "one twice"])
async def test_a_list_that_changes_while_it_is_read_is_read_again(
    platform: Platform, make_booking: MakeBooking, change: Callable[[Any], Any]
) -> None:
    book(platform, 6)
    platform.fault("booking", edited(change), times=1)
    found = await make_booking(page_size=2, concurrency=1).bookings(NOW)
    assert names(found) == [f"Model/{number}" for number in range(6)]
    assert [request.query["page"] for request in platform.history] == ["1", "2", "3", "1", "2", "3"]


@pytest.mark.parametrize("total", [4, 5, 7, 100])
async def test_a_total_that_changes_between_pages_is_read_again(
    platform: Platform, make_booking: MakeBooking, total: int
) -> None:
    book(platform, 6)
    platform.fault("booking", edited(lambda body: None), times=1)
    platform.fault("booking", edited(lambda body: body | {"total": total}), times=1)
    found = await make_booking(page_size=2, concurrency=1).bookings(NOW)
    assert len(found.reservations) == 6


async def test_a_reservation_booked_between_two_pages_is_on_the_list(
    platform: Platform, make_booking: MakeBooking
) -> None:
    book(platform, 4)

    def change(body: dict[str, Any]) -> None:
        start = BASE - HOUR // 2
        platform.add_reservation(ANNA, "anna", "Model/new", [(start, start + HOUR)])

    platform.fault("booking", edited(change), times=1)
    found = await make_booking(page_size=2, concurrency=1).bookings(NOW)
    assert names(found) == ["Model/0", "Model/1", "Model/2", "Model/3", "Model/new"]


@pytest.mark.parametrize("attempts", [1, 2, 4])
@pytest.mark.parametrize("change", CHANGES, ids=["fewer", "none", "more", "one twice"])
async def test_a_list_that_changes_at_every_attempt_is_unavailable(
    platform: Platform, make_booking: MakeBooking, attempts: int, change: Callable[[Any], Any]
) -> None:
    book(platform, 2)
    platform.fault("booking", edited(change))
    with pytest.raises(Unavailable, match="changes while it is read") as caught:
        await make_booking(page_size=2, attempts=attempts).bookings(NOW)
    assert caught.value.reason == "booking_unavailable"
    assert len(platform.history) == attempts


async def test_a_bad_entry_does_not_hide_that_another_was_missed(platform: Platform, make_booking: MakeBooking) -> None:
    """Booked are 0, 1, 2 and 3; listed are 0, a bad 1, 0 again and 3, so that 2 is missing."""
    book(platform, 4)

    def change(body: dict[str, Any]) -> None:
        body["items"][1]["slots"] = None
        body["items"][2] = body["items"][0]

    platform.fault("booking", edited(change))
    with pytest.raises(Unavailable, match="twice"):
        await make_booking().bookings(NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"user": None},
        {"user": {"name": "anna"}},
        {"user": {"id": "anna", "name": "anna"}},
        {"user": {"id": str(ANNA), "name": None}},
        {"model_id": "seven"},
        {"slots": None},
        {"slots": [{"start": BASE, "end": BASE + 1}]},
        {"slots": [{"id": "", "start": BASE, "end": BASE + 1}]},
        {"slots": [{"id": "s", "start": BASE + 1, "end": BASE}]},
        {"slots": [{"id": "s", "start": BASE, "end": BASE}]},
        {"slots": [{"id": "s", "start": BASE, "end": BASE + 9}, {"id": "s", "start": BASE + 9, "end": BASE + 18}]},
        {"slots": [{"id": "s", "start": BASE, "end": BASE * 1000}]},
        {"slots": [{"id": "s", "start": BASE, "end": 10**400}]},
        {"slots": [{"id": "s", "start": -1, "end": BASE}]},
        {"slots": [{"id": "s", "start": "2026-03-02", "end": BASE}]},
        {"slots": [{"id": "s", "start": BASE + 0.5, "end": BASE + 9}]},
    ],
    ids=lambda change: str(change)[:60],
)
async def test_a_bad_entry_spoils_its_own_model_only(
    platform: Platform, make_booking: MakeBooking, telemetry: Telemetry, change: dict[str, Any]
) -> None:
    book(platform, 3)
    platform.fault("booking", edited(lambda body: body["items"][1].update(change)))
    found = await make_booking().bookings(NOW)
    assert names(found) == ["Model/0", "Model/2"]
    assert found.unreadable == {"Model/1"}
    assert counted(telemetry, "entries_refused_total", peer="booking") == 1


async def test_two_bad_entries_of_one_model_are_both_counted(
    platform: Platform, make_booking: MakeBooking, telemetry: Telemetry
) -> None:
    book(platform, 3)
    numbers = count()

    def change(body: dict[str, Any]) -> None:
        for item in body["items"][:2]:
            item.update(model_name="Model/9", user=next(numbers))

    platform.fault("booking", edited(change))
    found = await make_booking().bookings(NOW)
    assert names(found) == ["Model/2"]
    assert found.unreadable == {"Model/9"}
    assert counted(telemetry, "entries_refused_total", peer="booking") == 2


async def test_entries_that_stay_bad_raise_the_alarm_which_says_whose_bookings_are_left_alone(
    platform: Platform, make_booking: MakeBooking, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flaws, "monotonic", count(0, 15).__next__)
    book(platform, 3)
    booking, alarms = make_booking(), []
    fault = platform.fault("booking", edited(lambda body: body["items"][1].update(slots=None)))
    for reading in range(7):
        if reading == 4:
            platform.end_fault(fault)
        await booking.bookings(NOW)
        alarms.append(counted(telemetry, "critical_errors_total", reason="booking_contract_broken"))
    assert alarms == [0, 0, 1, 1, 1, 1, 1]
    assert "nobody is warned or cancelled about Model/1" in str(telemetry.last_critical("booking_contract_broken", 60))


@pytest.mark.parametrize("entry", [None, 7, "text", [], {}, {"id": "r", "model_name": None}, {"model_name": 7}])
async def test_an_entry_without_a_models_name_leaves_no_list(
    platform: Platform, make_booking: MakeBooking, entry: object
) -> None:
    """Whose it is cannot be known: it may be anybody's claim on any model."""
    book(platform, 3)
    platform.fault("booking", edited(lambda body: body["items"].__setitem__(1, entry)))
    with pytest.raises(ContractBroken, match="without a model name"):
        await make_booking().bookings(NOW)


async def test_a_total_beyond_all_reason_breaks_the_contract(platform: Platform, make_booking: MakeBooking) -> None:
    platform.fault("booking", Fault.json({"items": [], "total": 10**400}))
    with pytest.raises(ServiceError):
        await make_booking().bookings(NOW)


async def test_a_single_reservation_is_read_as_it_is_now(platform: Platform, make_booking: MakeBooking) -> None:
    booked = platform.add_reservation(ANNA, "anna", "Model/1", [(BASE, BASE + HOUR), (BASE + HOUR, BASE + 2 * HOUR)])
    found = await make_booking().reservation(booked.id)
    listed = (await make_booking().bookings(NOW)).reservations
    assert found == listed[0]
    booked.slots.pop()
    found = await make_booking().reservation(booked.id)
    assert found is not None
    assert [slot.id for slot in found.slots] == [booked.slots[0].id]
    assert platform.history[0].path == f"/booking/api/v1/reservations/{booked.id}"


async def test_a_reservation_that_is_gone_is_none(
    platform: Platform, make_booking: MakeBooking, telemetry: Telemetry
) -> None:
    assert await make_booking().reservation("gone") is None
    assert counted(telemetry, "http_requests_total", peer="booking", outcome="ok") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": "another"},
        {"user": None},
        {"model_name": None},
        {"slots": None},
        {"slots": [{"id": "s", "start": BASE + 1, "end": BASE}]},
        {"slots": [{"id": "s", "start": BASE, "end": BASE + 9}, {"id": "s", "start": BASE + 9, "end": BASE + 18}]},
    ],
    ids=str,
)
async def test_a_reservation_that_cannot_be_understood_breaks_the_contract(
    platform: Platform, make_booking: MakeBooking, change: dict[str, Any]
) -> None:
    """It is not gone, and what is in it is not known: nothing may be cancelled on its account."""
    book(platform, 1)
    platform.fault("booking", edited(lambda body: body | change))
    with pytest.raises(ContractBroken):
        await make_booking().reservation(platform.reservations[0].id)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault.status(503), Unavailable), (Fault.hang(), Unavailable), (Fault.status(403), NotAllowed)],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_a_reservation_that_cannot_be_read_is_not_gone(
    platform: Platform, make_booking: MakeBooking, fault: Fault, error: type[ServiceError]
) -> None:
    platform.fault("booking", fault)
    with pytest.raises(error):
        await make_booking(timeout=0.1, attempts=2).reservation("r")


@pytest.mark.parametrize("id", ["..", "."])
async def test_an_id_that_would_be_another_path_is_not_asked_for(
    platform: Platform, make_booking: MakeBooking, id: str
) -> None:
    with pytest.raises(ContractBroken):
        await make_booking().reservation(id)
    assert platform.history == []
