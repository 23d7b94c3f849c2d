"""Peers that speak to the stand-in platform; whatever a test makes them ask must be within the contracts."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from dev.platform import Platform
from limiter.clients.http import Peer
from limiter.telemetry import Telemetry
from tests.clients.contract import breach

MakePeer = Callable[..., Peer]
URLS = {"registry": "registry_url", "dispatcher": "dispatcher_url", "booking": "booking_url"}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        yield client


@pytest.fixture
def make_peer(platform: Platform, client: httpx.AsyncClient, telemetry: Telemetry) -> Iterator[MakePeer]:
    """Makes a peer of the platform by name; give other fields to change them."""

    def make(name: str, **changes: Any) -> Peer:
        fields: dict[str, Any] = {"timeout": 1.0, "attempts": 3, "retry_first": 0.001, "concurrency": 10}
        if name in URLS:
            fields["url"] = getattr(platform, URLS[name])
        if name == "booking":
            fields["token"] = platform.token
        return Peer(**{"name": name, "client": client, "telemetry": telemetry, **fields, **changes})

    yield make
    assert [found for found in map(breach, platform.history) if found] == []
