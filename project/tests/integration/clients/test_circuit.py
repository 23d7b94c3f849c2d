"""A service that keeps failing is left alone for a while, and tried again by one call."""

import asyncio

import pytest

from dev.fake_platform.platform import Fault, Platform
from limiter.clients.circuit import Circuit
from limiter.clients.errors import CircuitOpen, NotFound, NotSent, Rejected, Unavailable
from limiter.clients.http import ServiceClient
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


SAGA, OTHER = (f"/v1/saga/00000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
SCALE = {"modelId": "00000000-0000-4000-8000-000000000003", "replicas": 2}


@pytest.fixture
def dispatcher(platform: Platform, make_service: MakeService) -> ServiceClient:
    """One that cannot show that saga; two failures open its circuit."""
    platform.fault("dispatcher", Fault.status(500), path=SAGA)
    return make_service("dispatcher", attempts=1, circuit=Circuit(2, 0.2))


async def scale(client: ServiceClient) -> None:
    with pytest.raises(Unavailable):
        await client.post("/v1/command/scale", SCALE)


async def rest(client: ServiceClient) -> None:
    """Open its circuit, and wait until the next call may try."""
    for _ in range(2):
        await scale(client)
    await asyncio.sleep(0.25)


async def ask(client: ServiceClient) -> None:
    with pytest.raises(Unavailable, match="500"):
        await client.get(SAGA, alone=True)


async def test_a_500_about_one_thing_counts_neither_for_nor_against_the_service(
    platform: Platform, dispatcher: ServiceClient
) -> None:
    platform.fault("dispatcher", Fault.status(500), path="scale")
    for _ in range(3):
        await ask(dispatcher)
    assert dispatcher.circuit.failed == 0
    await scale(dispatcher)
    await ask(dispatcher)
    await scale(dispatcher)
    assert dispatcher.circuit.is_open


@pytest.mark.parametrize("back", [True, False])
async def test_a_call_that_tried_and_learned_of_one_thing_alone_leaves_it_to_the_next_to_tell(
    platform: Platform, dispatcher: ServiceClient, back: bool
) -> None:
    down = platform.fault("dispatcher", Fault.status(503), path="scale")
    await rest(dispatcher)
    await ask(dispatcher)
    if back:
        platform.end_fault(down)
        with pytest.raises(Rejected):
            await dispatcher.get(OTHER, alone=True)
    else:
        await scale(dispatcher)
    assert dispatcher.circuit.is_open is not back


async def test_after_a_call_that_tried_and_learned_of_one_thing_alone_one_command_tries_and_not_all(
    platform: Platform, dispatcher: ServiceClient
) -> None:
    """Each that is sent to a dispatcher that fails at everything blocks its model for SAGA_TIMEOUT_SECONDS."""
    platform.fault("dispatcher", Fault.status(500), path="scale")
    await rest(dispatcher)
    platform.history.clear()
    await asyncio.gather(ask(dispatcher), *(scale(dispatcher) for _ in range(5)))
    assert len(platform.history) == 2


async def test_what_is_asked_for_beside_the_call_that_tries_waits_for_it(
    platform: Platform, dispatcher: ServiceClient
) -> None:
    down = platform.fault("dispatcher", Fault.status(503), path="scale")
    for _ in range(2):
        await scale(dispatcher)
    platform.end_fault(down)
    await asyncio.sleep(0.25)
    other = dispatcher.get(OTHER, alone=True)
    found = await asyncio.gather(ask(dispatcher), ask(dispatcher), other, return_exceptions=True)
    assert [type(one) for one in found] == [type(None), type(None), NotFound]
    assert not dispatcher.circuit.is_open
