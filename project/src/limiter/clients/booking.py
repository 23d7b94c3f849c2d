"""BookingService: who booked what, and the cancelling of slots. Times there are Unix seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from operator import is_
from urllib.parse import quote

from loguru import logger
from pydantic import ValidationError

from limiter.clients.concurrency import gathered
from limiter.clients.decoding import KnownPages, decode, describe_validation
from limiter.clients.errors import ContractBroken, Unavailable
from limiter.clients.flaws import Flaws
from limiter.clients.http import Check, ServiceClient
from limiter.clients.reservation_wire import (
    ONE,
    PAGE,
    WirePage,
    WireReservation,
    model_id_of,
    sound_page,
    to_domain,
)
from limiter.domain.reservations import Bookings, Reservation, Slot

PATH = "/api/v1/reservations"
NOBODY = frozenset[str]()
SHOWN = 100  # characters of a name: too long a one may be what cannot be read


class _ListChanged(Exception):
    """Somebody booked or cancelled between two pages: what was read is no picture of any moment."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What one page said: the total, how many it lists itself, and the models of those that are not understood."""

    total: int
    listed: int
    reservations: Sequence[Reservation]
    unreadable: Sequence[frozenset[str]] = ()


def _sound(raw: bytes) -> _Read | None:
    page = sound_page(raw)
    return page and _Read(page[0], len(page[1]), page[1])


def _flaw(unreadable: frozenset[str]) -> str | None:
    """What is wrong with a list of which the bookings of these models cannot be understood."""
    some = ", ".join(name[:SHOWN] for name in sorted(unreadable)[:3]) + (" and more" if len(unreadable) > 3 else "")
    return f"some cannot be read, so nobody is warned or cancelled about {some}" if unreadable else None


class Booking:
    """Reads all reservations or none, or a single one, and cancels."""

    def __init__(self, service: ServiceClient, page_size: int, lookback: timedelta) -> None:
        self._service = service
        self._page_size = page_size
        self._lookback = lookback
        self._pages = KnownPages(_sound)
        self._flaws = Flaws(service.telemetry, service.name, "reservations")
        self._last: Sequence[_Read] = ()
        self._bookings = Bookings(())

    async def bookings(self, now: datetime) -> Bookings:
        """Every reservation that ends after `now - lookback`; raises ServiceError rather than return a part.

        A list that changes while it is read is read again, as often as a call that fails.
        """
        since = int((now - self._lookback).timestamp())
        for attempt in range(1, self._service.attempts):
            try:
                return await self._read(since)
            except _ListChanged:
                await self._service.pause(attempt)
        try:
            return await self._read(since)
        except _ListChanged as error:
            raise Unavailable(
                f"{self._service.name}: the list changes while it is read: {error}", self._service.name
            ) from None

    async def _read(self, since: int) -> Bookings:
        first = await self._page(since, 1)
        numbers = range(2, ceil(first.total / self._page_size) + 1)
        rest = await gathered([partial(self._page, since, page) for page in numbers], self._service.concurrency)
        pages = (first, *rest)
        listed = sum(page.listed for page in pages)
        if listed != first.total or any(page.total != first.total for page in rest):
            raise _ListChanged(f"{listed} reservations read, {first.total} announced")
        unreadable = [names for page in pages for names in page.unreadable]
        self._flaws.found(_flaw(NOBODY.union(*unreadable)))
        if len(pages) == len(self._last) and all(map(is_, pages, self._last)):
            return self._bookings
        found = {one.id: one for page in pages for one in page.reservations}
        if len(found) + len(unreadable) < listed:
            raise _ListChanged("a reservation is listed twice")
        bookings = Bookings(tuple(found.values()), NOBODY.union(*unreadable))
        self._last, self._bookings = pages, bookings.following(self._bookings)
        return self._bookings

    async def _page(self, since: int, page: int) -> _Read:
        """The page, the same object as long as nothing on it changes."""
        size = self._page_size
        raw = await self._service.get(
            PATH, page=page, page_size=size, min_end_time=since, sort_by="start_time", sort_order="asc"
        )
        read = await self._pages.read(page, raw)
        if read is not None:
            return read
        return self._one_by_one(decode(PAGE, raw, self._service.name, f"page {page}"))

    def _one_by_one(self, page: WirePage) -> _Read:
        """One bad entry spoils its own model only; one that does not even say its model spoils the list."""
        good: list[Reservation] = []
        unreadable: list[frozenset[str]] = []
        for item in page.items:
            try:
                good.append(to_domain(WireReservation.model_validate(item)))
            except (ValidationError, ValueError) as error:
                unreadable.append(self._spoiled(item, error))
        return _Read(page.total, len(page.items), good, unreadable)

    def _spoiled(self, item: object, error: ValueError) -> frozenset[str]:
        """The name of the model whose entry it is, and its id if it says one."""
        why = describe_validation(error) if isinstance(error, ValidationError) else str(error)
        name = item.get("model_name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise ContractBroken(f"an entry without a model name: {why}", self._service.name)
        logger.bind(event="entry_refused", peer=self._service.name).warning("reservation of {!r}: {}", name, why)
        self._service.telemetry.refused(self._service.name, 1)
        id = model_id_of(item)
        name = name.encode(errors="replace").decode()  # or it could not be recorded
        return frozenset((name,) if id is None else (name, str(id)))

    async def reservation(self, id: str) -> Reservation | None:
        """One reservation as it is now; None if there is none. Raises ServiceError, ContractBroken if unreadable."""
        raw = await self._service.find(f"{PATH}/{self._segment(id)}")
        if raw is None:
            return None
        wire = decode(ONE, raw, self._service.name, f"reservation {id}")
        try:
            found = to_domain(wire)
        except ValueError as error:
            raise ContractBroken(f"{self._service.name}: {error}", self._service.name) from None
        if found.id != id:
            raise ContractBroken(
                f"{self._service.name}: asked for reservation {id}, got {found.id}", self._service.name
            )
        return found

    async def cancel(self, reservation_id: str, slot: Slot | None, check: Check = lambda: None) -> bool:
        """Delete one slot of a reservation, or all of it; false if that was gone already. Raises ServiceError.

        All of it only once: the user may have booked another slot in it before a second attempt. `check` raises if it
        may not be cancelled any more.
        """
        path = f"{PATH}/{self._segment(reservation_id)}"
        if slot is not None:
            path += f"/slot-usage/{self._segment(slot.id)}"
        return await self._service.delete(path, repeat=slot is not None, check=check)

    def _segment(self, id: str) -> str:
        """An id as a part of a path; one that would change the path, and so what is deleted, is refused."""
        if id in (".", ".."):
            raise ContractBroken(f"{self._service.name}: {id!r} is no id", self._service.name)
        return quote(id, safe="")
