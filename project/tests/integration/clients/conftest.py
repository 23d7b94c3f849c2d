"""Clients that speak to the stand-in platform; whatever a test makes them ask must be within the contracts."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from dev.fake_platform.platform import Platform
from limiter.clients.circuit import Circuit
from limiter.clients.http import ServiceClient
from limiter.clients.transport import Transport
from limiter.telemetry import Telemetry
from tests.integration.clients.contract import breach
from tests.integration.clients.wire import history

MakeService = Callable[..., ServiceClient]
URLS = {"registry": "registry_url", "dispatcher": "dispatcher_url", "booking": "booking_url"}


@pytest.fixture(scope="session")
async def shared_platform() -> AsyncIterator[Platform]:
    """One server for all tests of the clients: to start and stop one takes longer than most of them."""
    async with Platform(saga_seconds=0) as running:
        yield running


@pytest.fixture
async def platform(shared_platform: Platform) -> AsyncIterator[Platform]:
    """The stand-in services, as good as new."""
    with suppress(RuntimeError):  # it runs, unless the test before stopped it
        await shared_platform.start()
    yield shared_platform
    shared_platform.clear_faults()
    await history(shared_platform)  # what this test gave up must not enter the next one's
    _empty(shared_platform)


def _empty(platform: Platform) -> None:
    for model in platform.models:
        platform.remove_model(model)
    for reservation in platform.reservations:
        reservation.slots.clear()
    for place in range(len(platform.metrics_urls)):
        platform.restart_entrypoint(place)
        platform.balance_entrypoint(place)
        platform.set_page_age(place, None)
    for record in (platform.history, platform.deletions, platform.commands, platform.sagas, platform.violations):
        record.clear()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=5, transport=Transport(None, 100)) as client:
        yield client


@pytest.fixture
def make_service(platform: Platform, client: httpx.AsyncClient, telemetry: Telemetry) -> Iterator[MakeService]:
    """Makes a client of one of the platform's services; give other fields to change them."""

    def make(name: str, **changes: Any) -> ServiceClient:
        fields: dict[str, Any] = {"timeout": 1.0, "attempts": 3, "retry_first": 0.001, "concurrency": 10}
        fields["circuit"] = Circuit(1000, 1.0)  # never opens, where a test does not want it to
        if name in URLS:
            fields["url"] = getattr(platform, URLS[name])
        if name == "booking":
            fields["token"] = platform.token
        return ServiceClient(**{"name": name, "http": client, "telemetry": telemetry, **fields, **changes})

    yield make
    assert [found for found in map(breach, platform.history) if found] == []
