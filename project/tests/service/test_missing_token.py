"""A replica without a token for BookingService is up and ready, and says loudly that it cannot cancel."""

import re
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
    assert [text for text in page["warnings"] if "BOOKING_SERVICE_TOKEN" in text] == page["warnings"][:1] * warned
    assert [line["level"].lower() for line in lines if isinstance(line["level"], str)] == ["warning"] * warned


async def test_a_dry_run_says_so_first_and_what_it_would_do(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    platform.add_model("busy")
    platform.set_rate("busy", 200)
    async with replicas(1, environment(services, schema, platform, **FAST, DRY_RUN="true"), tmp_path) as (replica,):
        await replica.ready()
        page = (await replica.get("/health/readiness")).json()
        # On a busy machine the page may first be read after several runs.
        counted = re.compile(r'decision="scale_up",reason="burst"} [1-9]')
        shown = await replica.until(lambda page: counted.search(page.text) is not None, "/metrics")
        # It is counted before it is written and logged.
        await replica.until(lambda _: any(line.get("decision") == "scale_up" for line in replica.lines()))
        lines = replica.lines()
        assert await replica.end() == 0
    assert lines[0]["event"] == "dry_run"
    assert "DRY_RUN is on" in str(lines[0]["message"])
    assert ["DRY_RUN is on" in text for text in page["warnings"]] == [True]
    assert "rps_limiter_dry_run 1.0" in shown.text
    (decided,) = [line for line in lines if line.get("decision") == "scale_up"]
    assert str(decided["message"]).startswith("would scale_up busy: ")
    assert decided["dry_run"] is True
    assert platform.commands == []
