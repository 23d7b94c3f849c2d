"""BookingService: who booked which model for which slots; all its times are Unix seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from dev.fake_platform.wire import Json, choice, number, optional_number

TOKEN = "platform-token"  # noqa: S105 - protects sample reservations only
DEFAULT_PAGE = 20
LARGEST_PAGE = 1000


class User(NamedTuple):
    """A user who books; the service has no e-mail address."""

    id: str
    name: str


@dataclass(eq=False)
class Slot:
    """A span of booked time in Unix seconds; `id` is what the slot-usage path takes."""

    start: int
    end: int
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(eq=False)
class Reservation:
    """One user's booking of one model; it ends with its last slot."""

    user: User
    model_name: str
    slots: list[Slot]
    model_id: str | None = None
    config_id: int | None = None
    id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def start(self) -> int:
        """Start of the first slot, in Unix seconds."""
        return min(slot.start for slot in self.slots)

    @property
    def end(self) -> int:
        """End of the last slot, in Unix seconds."""
        return max(slot.end for slot in self.slots)

    def as_json(self) -> Json:
        """The contract's ReservationResponse."""
        return {
            "id": self.id,
            "user": self.user._asdict(),
            "model_name": self.model_name,
            "config_id": self.config_id,
            "model_id": self.model_id,
            "slots": [{"start": slot.start, "end": slot.end, "id": slot.id} for slot in self.slots],
        }


@dataclass(frozen=True)
class Deletion:
    """What one DELETE removed, at which Unix second: the whole reservation, or the slot with `slot_id`."""

    at: float
    reservation_id: str
    slot_id: str | None
    user: User
    model_name: str
    slots: tuple[Slot, ...]


SORT_KEYS: dict[str, Callable[[Reservation], Any]] = {
    "start_time": lambda reservation: reservation.start,
    "end_time": lambda reservation: reservation.end,
    "model_name": lambda reservation: reservation.model_name,
    "id": lambda reservation: reservation.id,
}


class Booking:
    """Reading is open to everybody; deleting requires the bearer token."""

    def __init__(self, token: str, clock: Callable[[], float]) -> None:
        """Start without reservations; `clock` gives Unix seconds."""
        self.reservations: list[Reservation] = []
        self.deletions: list[Deletion] = []
        self._token = token
        self._clock = clock

    def mount(self) -> Mount:
        """Its four operations."""
        one = "/api/v1/reservations/{reservation_id}"
        return Mount(
            "/booking",
            routes=[
                Route("/api/v1/reservations", self.find),
                Route(one, self.read),
                Route(one, self.delete, methods=["DELETE"]),
                Route(one + "/slot-usage/{slot_usage_id}", self.delete_slot, methods=["DELETE"]),
            ],
        )

    async def find(self, request: Request) -> Response:
        """One page of the reservations that pass every filter given; `total` counts all that pass."""
        page = number(request, "page", 1, at_least=1)
        size = number(request, "page_size", DEFAULT_PAGE, at_least=1, at_most=LARGEST_PAGE)
        key = SORT_KEYS[choice(request, "sort_by", tuple(SORT_KEYS))]
        passes = _filter(request)
        found = [reservation for reservation in self.reservations if reservation.slots and passes(reservation)]
        found.sort(key=key, reverse=choice(request, "sort_order", ("asc", "desc")) == "desc")
        items = [reservation.as_json() for reservation in found[(page - 1) * size : page * size]]
        return JSONResponse({"items": items, "total": len(found), "page": page, "page_size": size})

    async def read(self, request: Request) -> Response:
        """One reservation."""
        return JSONResponse(self._reservation(request).as_json())

    async def delete(self, request: Request) -> Response:
        """Delete a whole reservation."""
        self._authorize(request)
        reservation = self._reservation(request)
        self._delete(reservation, reservation.slots, None)
        return Response(status_code=204)

    async def delete_slot(self, request: Request) -> Response:
        """Delete one slot, and with the last one the reservation."""
        self._authorize(request)
        reservation = self._reservation(request)
        slot_id = request.path_params["slot_usage_id"]
        slots = [slot for slot in reservation.slots if slot.id == slot_id]
        if not slots:
            raise HTTPException(404, "Slot usage not found")
        self._delete(reservation, slots, slot_id)
        return Response(status_code=204)

    def _delete(self, reservation: Reservation, slots: list[Slot], slot_id: str | None) -> None:
        gone = tuple(slots)
        reservation.slots = [slot for slot in reservation.slots if slot not in gone]
        if not reservation.slots:
            self.reservations.remove(reservation)
        user, model_name = reservation.user, reservation.model_name
        self.deletions.append(Deletion(self._clock(), reservation.id, slot_id, user, model_name, gone))

    def _reservation(self, request: Request) -> Reservation:
        wanted = request.path_params["reservation_id"]
        for reservation in self.reservations:
            if reservation.id == wanted and reservation.slots:
                return reservation
        raise HTTPException(404, "Reservation not found")

    def _authorize(self, request: Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise HTTPException(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
        if token != self._token:
            raise HTTPException(403, "Forbidden")


def _filter(request: Request) -> Callable[[Reservation], bool]:
    """The query's filters as one test; bounds are included."""
    bounds = {name: optional_number(request, name) for name in ("min_start_time", "max_start_time")}
    bounds |= {name: optional_number(request, name) for name in ("min_end_time", "max_end_time")}
    user_id, model_name = request.query_params.get("user_id"), request.query_params.get("model_name")

    def passes(reservation: Reservation) -> bool:
        return (
            user_id in (None, reservation.user.id)
            and model_name in (None, reservation.model_name)
            and _within(reservation.start, bounds["min_start_time"], bounds["max_start_time"])
            and _within(reservation.end, bounds["min_end_time"], bounds["max_end_time"])
        )

    return passes


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
