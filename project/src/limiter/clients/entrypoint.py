"""Entrypoint: the call counters of each process, read from its own metrics page."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from limiter.clients.errors import CircuitOpen, ContractBroken, ServiceError, Unavailable
from limiter.clients.exposition import BrokenPage, Family, NoFamily, PageReader, SeriesCache
from limiter.clients.http import ServiceClient, check_status
from limiter.domain.usage import FailedScrape, Scrape, ScrapedPage, ScrapeProblem

# Plain text, so that nothing has to be negotiated or unpacked: on a local network compression costs more than it saves.
HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}


class Entrypoint:
    """Reads every Entrypoint process side by side; one that fails spoils only its own reading."""

    def __init__(self, clients: Sequence[ServiceClient], family: Family, clock: Callable[[], datetime]) -> None:
        self._targets = [(client, SeriesCache(family)) for client in clients]
        self._clock = clock

    @property
    def targets(self) -> list[str]:
        return [client.url for client, _ in self._targets]

    async def scrape(self) -> list[Scrape]:
        """One reading of every target; failures are readings too, of their own type."""
        return list(await asyncio.gather(*(self._one(client, cache) for client, cache in self._targets)))

    async def _one(self, client: ServiceClient, cache: SeriesCache) -> Scrape:
        for attempt in range(1, client.attempts + 1):
            try:
                return await self._page(client, cache)
            except Unavailable as error:
                if attempt == client.attempts or isinstance(error, CircuitOpen):
                    return FailedScrape(client.url, ScrapeProblem.UNAVAILABLE, str(error))
                await client.pause(attempt)
            except ServiceError as error:
                missing = isinstance(error.__cause__, NoFamily)
                return FailedScrape(
                    client.url, ScrapeProblem.FAMILY_MISSING if missing else ScrapeProblem.BROKEN, str(error)
                )
        raise AssertionError("unreachable: the last attempt returns")

    async def _page(self, client: ServiceClient, cache: SeriesCache) -> ScrapedPage:
        reader = PageReader(cache)
        async with client.answered("GET metrics"), client.http.stream("GET", client.url, headers=HEADERS) as response:
            check_status(response)
            try:
                async for chunk in response.aiter_bytes():
                    reader.feed(chunk)
                found = reader.finish()
            except (BrokenPage, NoFamily) as error:
                raise ContractBroken(str(error)) from error
        return ScrapedPage(client.url, self._clock(), found.counters, found.names, found.unreadable, found.started_at)
