"""Entrypoint: the call counters of each process, read from its own metrics page."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

from limiter.clients.answer import check_status
from limiter.clients.errors import ContractBroken, ServiceError, Unavailable
from limiter.clients.exposition import NoFamily
from limiter.clients.http import REQUEST_ID, ServiceClient
from limiter.clients.known_page import SeriesCache
from limiter.clients.label_sets import BrokenPage, Family
from limiter.clients.page import PageContent, PageReader
from limiter.computing import computed
from limiter.domain.usage import FailedScrape, Scrape, ScrapedPage, ScrapeProblem

# Plain text, so that nothing has to be negotiated or unpacked: on a local network compression costs more than it saves.
HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}


class StalePage(Exception):
    """The page says itself that it is too old to tell of now."""


@dataclass(frozen=True, slots=True)
class _Caches:
    """What is known of the series of one target; of those who read it first, one goes ahead."""

    calls: SeriesCache
    in_flight: SeriesCache | None
    first: asyncio.Lock = field(default_factory=asyncio.Lock)


class Entrypoint:
    """Reads every Entrypoint process side by side; one that fails spoils only its own reading.

    `in_flight` is the gauge of requests in flight, if there is one; a page older than `oldest` tells nothing.
    """

    def __init__(
        self,
        clients: Sequence[ServiceClient],
        family: Family,
        clock: Callable[[], datetime],
        in_flight: Family | None = None,
        oldest: timedelta = timedelta.max,
    ) -> None:
        self._targets = [
            (client, _Caches(SeriesCache(family), SeriesCache(in_flight) if in_flight else None)) for client in clients
        ]
        self._read_as = family.fingerprint
        self._clock = clock
        self._oldest = oldest

    @property
    def targets(self) -> list[str]:
        return [client.url for client, _ in self._targets]

    async def scrape(self) -> list[Scrape]:
        """One reading of every target; failures are readings too, of their own type."""
        return list(await asyncio.gather(*(self._one(client, caches) for client, caches in self._targets)))

    async def _one(self, client: ServiceClient, caches: _Caches) -> Scrape:
        for attempt in range(1, client.attempts + 1):
            try:
                return await self._page(client, caches)
            except Unavailable as error:
                if attempt == client.attempts or not client.asks_again(error):
                    return FailedScrape(client.url, ScrapeProblem.UNAVAILABLE, str(error))
                await client.pause(attempt, error.retry_after)
            except ServiceError as error:
                return FailedScrape(client.url, _problem(error), str(error))
        raise AssertionError("unreachable: the last attempt returns")

    async def _page(self, client: ServiceClient, caches: _Caches) -> ScrapedPage:
        if caches.calls.page.raws:
            return await self._read(client, caches)
        async with caches.first:
            return await self._read(client, caches)

    async def _read(self, client: ServiceClient, caches: _Caches) -> ScrapedPage:
        reader, first = PageReader(caches.calls, caches.in_flight), not caches.calls.page.raws
        async with client.answered("GET metrics") as request_id:
            headers = HEADERS | {REQUEST_ID: request_id}
            async with client.http.stream("GET", client.url, headers=headers) as response:
                check_status(response)
                self._check_age(response)
                try:
                    async for chunk in response.aiter_bytes():
                        if first:  # series that are new take 5 ms at a time, of each target
                            await computed(reader.feed, chunk)
                        else:
                            reader.feed(chunk)
                    page = await computed(reader.finish)
                except (BrokenPage, NoFamily) as error:
                    raise ContractBroken(str(error)) from error
        return _scraped(client.url, self._clock(), page, self._read_as)

    def _check_age(self, response: httpx.Response) -> None:
        """Raise ContractBroken if a cache says that it has kept the page for too long."""
        # RFC 9111, 5.1: of several the first counts, and what is no number of seconds is ignored.
        age = response.headers.get("age", "").partition(",")[0].strip()
        if age.isascii() and age.isdigit() and float(age) > self._oldest.total_seconds():
            raise ContractBroken(f"the page is {age[:20]} s old") from StalePage()


def _problem(error: ServiceError) -> ScrapeProblem:
    if isinstance(error.__cause__, StalePage):
        return ScrapeProblem.STALE
    return ScrapeProblem.FAMILY_MISSING if isinstance(error.__cause__, NoFamily) else ScrapeProblem.BROKEN


def _scraped(target: str, read_at: datetime, page: PageContent, read_as: str) -> ScrapedPage:
    calls, in_flight = page.calls, page.in_flight
    unclear = {f"in flight: {series}": name for series, name in in_flight.unreadable.items()}
    return ScrapedPage(
        target=target,
        read_at=read_at,
        counters=calls.counters,
        names=calls.names,
        unreadable=calls.unreadable | unclear,
        started_at=page.started_at,
        busy=frozenset(in_flight.names[series] for series, value in in_flight.counters.items() if value > 0),
        digest=page.digest,
        heartbeat=page.heartbeat,
        read_as=read_as,
        lacks_in_flight=page.lacks_in_flight,
    )
