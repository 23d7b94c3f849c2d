"""Cancelling: exactly the slots that were meant, by the bearer of the token, and twice is no harm."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote
from uuid import UUID

import pytest

from dev.fake_platform.platform import Fault, Platform, Reservation
from limiter.clients.booking import Booking
from limiter.clients.errors import NotAllowed, Rejected, ServiceError, Unavailable
from limiter.domain.reservations import Slot
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import raw_server, says

BASE, HOUR = 1_772_445_600, 3600
PATH = "/booking/api/v1/reservations"


def booked(platform: Platform, slots: int = 2) -> Reservation:
    times = [(BASE + place * HOUR, BASE + (place + 1) * HOUR) for place in range(slots)]
    return platform.add_reservation(UUID(int=101), "anna", "Model/1", times)


def slot(id: str, reservation_id: str = "r") -> Slot:
    start = datetime.fromtimestamp(BASE, UTC)
    return Slot(start, start + timedelta(hours=1), id, reservation_id)


def booking(make_service: MakeService, **changes: object) -> Booking:
    return Booking(make_service("booking", **changes), 1000, timedelta(hours=1))


async def test_a_whole_reservation_goes_in_one_call(platform: Platform, make_service: MakeService) -> None:
    reservation = booked(platform)
    assert await booking(make_service).cancel(reservation.id, None) is True
    (request,) = platform.history
    assert (request.method, request.path, request.query, request.body) == (
        "DELETE",
        f"{PATH}/{reservation.id}",
        {},
        None,
    )
    assert (request.authorization, request.status) == (True, 204)
    assert platform.reservations == []


async def test_a_single_slot_goes_alone(platform: Platform, make_service: MakeService) -> None:
    reservation = booked(platform)
    kept, gone = (one.id for one in reservation.slots)
    assert await booking(make_service).cancel(reservation.id, slot(gone)) is True
    (request,) = platform.history
    assert (request.method, request.path) == ("DELETE", f"{PATH}/{reservation.id}/slot-usage/{gone}")
    assert request.authorization
    assert [one.id for one in reservation.slots] == [kept]


@pytest.mark.parametrize("whole", [True, False])
async def test_what_is_gone_already_is_no_error(platform: Platform, make_service: MakeService, whole: bool) -> None:
    assert await booking(make_service).cancel("r", None if whole else slot("s")) is False
    assert [request.status for request in platform.history] == [404]


async def test_a_lost_answer_about_one_slot_is_asked_for_again(platform: Platform, make_service: MakeService) -> None:
    reservation = booked(platform, 3)
    platform.fault("booking", Fault.lost_answer(), times=1)
    assert await booking(make_service).cancel(reservation.id, slot(reservation.slots[0].id)) is False
    assert [request.status for request in platform.history] == [None, 404]
    assert len(platform.deletions) == 1


@pytest.mark.parametrize("fault", [Fault.lost_answer(), Fault.status(503)], ids=["lost", "503"])
async def test_a_whole_reservation_is_deleted_only_after_a_fresh_reading_so_never_asked_for_twice(
    platform: Platform, make_service: MakeService, fault: Fault
) -> None:
    reservation = booked(platform)
    platform.fault("booking", fault, times=1)
    with pytest.raises(Unavailable):
        await booking(make_service).cancel(reservation.id, None)
    assert len(platform.history) == 1


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("another", 403)], ids=["without a token", "with another token"]
)
async def test_only_the_bearer_of_the_token_cancels(
    platform: Platform, make_service: MakeService, token: str, status: int
) -> None:
    reservation = booked(platform)
    with pytest.raises(NotAllowed, match=f"HTTP {status}") as caught:
        await booking(make_service, token=token).cancel(reservation.id, None)
    assert (caught.value.status, caught.value.reason) == (status, "booking_rejected")
    assert [request.status for request in platform.history] == [status]
    assert platform.reservations == [reservation]


@pytest.mark.parametrize("status", [409, 422])
async def test_a_refusal_of_what_is_asked_says_which(
    platform: Platform, make_service: MakeService, status: int
) -> None:
    reservation = booked(platform)
    platform.fault("booking", Fault.status(status))
    with pytest.raises(Rejected) as caught:
        await booking(make_service).cancel(reservation.id, None)
    assert type(caught.value) is Rejected
    assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_may_do_later_is_no_refusal(platform: Platform, make_service: MakeService, status: int) -> None:
    platform.fault("booking", Fault.status(status))
    with pytest.raises(Unavailable):
        await booking(make_service).cancel(booked(platform).id, None)


async def test_a_token_that_no_header_can_carry_is_not_the_slots_fault(
    platform: Platform, make_service: MakeService
) -> None:
    with pytest.raises(NotAllowed):
        await booking(make_service, token="a\nb").cancel(booked(platform).id, None)


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.reset(), Fault.hang()], ids=lambda fault: str(fault.name))
async def test_a_cancelling_that_gets_no_answer_is_tried_to_the_end(
    platform: Platform, make_service: MakeService, fault: Fault
) -> None:
    reservation = booked(platform)
    platform.fault("booking", fault)
    with pytest.raises(Unavailable):
        await booking(make_service, timeout=0.1).cancel(reservation.id, None)
    assert platform.reservations == [reservation]


ODD = [("r 1?x=1#y", "s%2F&ü"), ("a/b", "c/d"), ("../x", "a\\b"), ("%", "+")]


@pytest.mark.parametrize(("reservation_id", "slot_id"), ODD)
async def test_odd_ids_are_quoted(make_service: MakeService, reservation_id: str, slot_id: str) -> None:
    async with raw_server(says(b"", "204 No Content")) as server:
        await booking(make_service, url=server.url).cancel(reservation_id, slot(slot_id))
    method, target, _ = server.heads[0].split("\r\n")[0].split(" ")
    parts = target.split("/")
    assert method == "DELETE"
    assert "?" not in target
    assert "#" not in target
    assert parts[:4] + parts[5:6] == ["", "api", "v1", "reservations", "slot-usage"]
    assert [unquote(parts[4]), unquote(parts[6])] == [reservation_id, slot_id]
    assert len(parts) == 7


async def test_a_slot_named_like_a_folder_does_not_take_the_reservation_with_it(
    platform: Platform, make_service: MakeService
) -> None:
    """An URL's `x/slot-usage/..` is `x`: the DELETE of one slot would be that of all."""
    reservation = booked(platform)
    kept = reservation.slots[0]
    reservation.slots[1].id = ".."
    with suppress(ServiceError, ValueError):
        await booking(make_service).cancel(reservation.id, slot(".."))
    assert kept in reservation.slots
