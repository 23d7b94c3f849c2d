"""Entrypoint: the call counters of each process, read from its own metrics page."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from limiter.clients.exposition import BrokenPage, Family, NoFamily, PageReader, SeriesCache
from limiter.clients.http import CircuitOpen, ContractBroken, NeighbourError, Peer, Unavailable, check_status
from limiter.domain.usage import Page, Scrape, Unknown, Unread

# Plain text, so that nothing has to be negotiated or unpacked: on a local network compression costs more than it saves.
HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}


class Entrypoint:
    """Reads every Entrypoint process side by side; one that fails spoils only its own reading."""

    def __init__(self, peers: Sequence[Peer], family: Family, clock: Callable[[], datetime]) -> None:
        self._targets = [(peer, SeriesCache(family)) for peer in peers]
        self._clock = clock

    @property
    def targets(self) -> list[str]:
        return [peer.url for peer, _ in self._targets]

    async def scrape(self) -> list[Scrape]:
        """One reading of every target; failures are readings too, of their own type."""
        return list(await asyncio.gather(*(self._one(peer, cache) for peer, cache in self._targets)))

    async def _one(self, peer: Peer, cache: SeriesCache) -> Scrape:
        for attempt in range(1, peer.attempts + 1):
            try:
                return await self._page(peer, cache)
            except Unavailable as error:
                if attempt == peer.attempts or isinstance(error, CircuitOpen):
                    return Unread(peer.url, Unknown.UNAVAILABLE, str(error))
                await peer.pause(attempt)
            except NeighbourError as error:
                missing = isinstance(error.__cause__, NoFamily)
                return Unread(peer.url, Unknown.FAMILY_MISSING if missing else Unknown.BROKEN, str(error))
        raise AssertionError("unreachable: the last attempt returns")

    async def _page(self, peer: Peer, cache: SeriesCache) -> Page:
        reader = PageReader(cache)
        async with peer.answered("GET metrics"), peer.client.stream("GET", peer.url, headers=HEADERS) as response:
            check_status(response)
            try:
                async for chunk in response.aiter_bytes():
                    reader.feed(chunk)
                found = reader.finish()
            except (BrokenPage, NoFamily) as error:
                raise ContractBroken(str(error)) from error
        return Page(peer.url, self._clock(), found.counters, found.names, found.unreadable, found.started_at)
