"""What the fault suite does to the stand-in platform beside plain faults."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from dev.fake_platform.platform import Fault, Platform, Saga

DAY = 86_400


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform(saga_seconds=60) as platform:
        yield platform


@pytest.fixture
async def http(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {platform.token}"}
    async with httpx.AsyncClient(base_url=platform.url, trust_env=False, timeout=5, headers=headers) as client:
        yield client


async def started(platform: Platform, http: httpx.AsyncClient, replicas: int = 3) -> Saga:
    """The saga of a new scale."""
    body = {"modelId": str(platform.add_model("busy").id), "replicas": replicas}
    assert (await http.post("/dispatcher/v1/command/scale", json=body)).status_code == 201
    (saga,) = platform.running_sagas()
    return saga


async def status(http: httpx.AsyncClient, saga: Saga) -> int | str:
    """The saga's status, or the answer's if there is none."""
    answer = await http.get(f"/dispatcher/v1/saga/{saga.id}")
    return str(answer.json()["status"]) if answer.status_code == 200 else answer.status_code


async def test_a_prolonged_saga_goes_on_until_it_is_released(platform: Platform, http: httpx.AsyncClient) -> None:
    saga = await started(platform, http)
    platform.prolong(saga)
    saga.seconds = 0
    assert await status(http, saga) == "in_progress"
    platform.release(saga)
    assert await status(http, saga) == "completed"
    assert saga.ends_at <= time.time()
    assert [model.replicas for model in platform.models] == [3]
    assert platform.running_sagas() == []


@pytest.mark.parametrize(("carried_out", "replicas"), [(True, 3), (False, 1)])
async def test_a_forgotten_saga_is_unknown_whether_it_was_carried_out_or_not(
    platform: Platform, http: httpx.AsyncClient, replicas: int, *, carried_out: bool
) -> None:
    saga = await started(platform, http)
    platform.forget(saga, carried_out=carried_out)
    assert await status(http, saga) == 404
    assert [model.replicas for model in platform.models] == [replicas]
    assert platform.running_sagas() == []


async def test_something_can_change_right_before_the_service_acts(platform: Platform, http: httpx.AsyncClient) -> None:
    now = time.time()
    made = platform.add_reservation("u", "ann", "m", slots=[(now, now + DAY), (now + DAY, now + 2 * DAY)])
    path = f"/booking/api/v1/reservations/{made.id}/slot-usage/{made.slots[0].id}"
    called: list[str] = []

    def change(path: str) -> None:
        called.append(path)
        made.slots.pop(0)

    armed = platform.fault("booking", Fault.preceded(change), "/slot-usage/", times=1, method="DELETE")
    assert not armed.met.is_set()
    assert (await http.delete(path)).status_code == 404
    assert (called, armed.met.is_set(), platform.deletions) == ([path], True, [])


async def test_one_fault_ends_and_the_others_stay(platform: Platform, http: httpx.AsyncClient) -> None:
    hanging = platform.fault("booking", Fault.hang(), method="GET", times=1)
    platform.fault("booking", Fault.status(403), method="DELETE")
    listing = asyncio.create_task(http.get("/booking/api/v1/reservations"))
    await hanging.met.wait()
    platform.end_fault(hanging)
    assert (await listing).status_code == 200
    assert (await http.delete("/booking/api/v1/reservations/r1")).status_code == 403
