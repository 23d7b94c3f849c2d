"""A service that keeps failing is left alone for a while, and tried again by one call."""

import asyncio

import pytest

from dev.fake_platform.platform import Fault, Platform
from limiter.clients.circuit import Circuit
from limiter.clients.errors import CircuitOpen, NotSent, Rejected, Unavailable
from limiter.telemetry import Telemetry
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import counted

LIST = "/api/v1/reservations"


async def test_it_is_left_alone_after_so_many_failures_in_a_row(
    platform: Platform, telemetry: Telemetry, make_service: MakeService
) -> None:
    platform.fault("booking", Fault.status(503))
    client = make_service("booking", attempts=1, circuit=Circuit(3, 60))
    for _ in range(3):
        with pytest.raises(Unavailable, match="503"):
            await client.get(LIST)
    with pytest.raises(CircuitOpen) as caught:
        await client.get(LIST)
    assert isinstance(caught.value, NotSent)
    assert caught.value.reason == "booking_unavailable"
    assert len(platform.history) == 3
    assert counted(telemetry, "http_requests_total", peer="booking", outcome="circuit_open") == 1


async def test_an_answer_in_between_starts_the_count_anew(platform: Platform, make_service: MakeService) -> None:
    client = make_service("booking", attempts=1, circuit=Circuit(2, 60))
    for _ in range(3):
        platform.fault("booking", Fault.reset(), times=1)
        with pytest.raises(Unavailable):
            await client.get(LIST)
        await client.get(LIST)


async def test_a_refusal_is_an_answer(platform: Platform, make_service: MakeService) -> None:
    platform.fault("booking", Fault.status(404), times=3)
    client = make_service("booking", circuit=Circuit(2, 60))
    for _ in range(3):
        with pytest.raises(Rejected):
            await client.get(LIST)
    await client.get(LIST)


async def test_after_the_rest_one_call_tries_for_all(platform: Platform, make_service: MakeService) -> None:
    platform.fault("booking", Fault.status(503))
    client = make_service("booking", attempts=1, circuit=Circuit(1, 0.2))
    with pytest.raises(Unavailable):
        await client.get(LIST)
    await asyncio.sleep(0.25)
    results = await asyncio.gather(*(client.get(LIST) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results].count(CircuitOpen) == 4
    assert len(platform.history) == 2
    platform.clear_faults()
    await asyncio.sleep(0.25)
    await client.get(LIST)
    await client.get(LIST)


@pytest.mark.parametrize("back", [True, False])
async def test_posts_wait_for_the_call_that_tries_and_are_not_refused_for_being_second(
    platform: Platform, make_service: MakeService, back: bool
) -> None:
    models = [platform.add_model(name) for name in ("a", "b", "c")]
    platform.fault("dispatcher", Fault.status(503))
    client = make_service("dispatcher", attempts=1, circuit=Circuit(1, 0.2))

    async def scale(of: int) -> bytes:
        return await client.post("/v1/command/scale", {"modelId": str(models[of].id), "replicas": 2})

    with pytest.raises(Unavailable):
        await scale(0)
    await asyncio.sleep(0.25)
    platform.clear_faults()
    platform.fault("dispatcher", Fault.slow(0.1) if back else Fault.status(503))
    results = await asyncio.gather(*map(scale, range(3)), return_exceptions=True)
    assert [type(result) for result in results].count(CircuitOpen) == (0 if back else 2)
    assert len(platform.history) == (4 if back else 2)
