"""A replica without a token for BookingService is up and ready, and says loudly that it cannot cancel."""

from pathlib import Path

import pytest

from dev.fake_platform.platform import Platform
from dev.servers.services import Services
from tests.bench import environment
from tests.replicas import FAST, replicas


@pytest.mark.parametrize(
    ("variables", "warned"),
    [({"BOOKING_SERVICE_TOKEN": ""}, True), ({"BOOKING_SERVICE_TOKEN": "", "DRY_RUN": "true"}, False), ({}, False)],
    ids=["without", "without, dry", "with"],
)
async def test_a_missing_token_is_a_warning_at_the_start_and_in_readiness(
    services: Services, schema: str, platform: Platform, tmp_path: Path, variables: dict[str, str], warned: bool
) -> None:
    async with replicas(1, environment(services, schema, platform, **FAST | variables), tmp_path) as (replica,):
        await replica.ready()
        page = (await replica.get("/health/readiness")).json()
        lines = [line for line in replica.lines() if line.get("event") == "no_booking_token"]
        assert await replica.end() == 0
    assert page["status"] == "ok"
    assert [("BOOKING_SERVICE_TOKEN" in text) for text in page["warnings"]] == [True] * warned
    assert [line["level"].lower() for line in lines if isinstance(line["level"], str)] == ["warning"] * warned
