"""A secret that is set appears nowhere: not in logs at DEBUG, not in tables, on pages, in errors or replies."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from dev.fake_platform.platform import Fault, Platform
from dev.servers.services import Services
from limiter.config.base import SECRETS
from limiter.db.engine import create_engine
from limiter.db.tables import metadata
from tests.bench import environment
from tests.conftest import ROOT
from tests.replicas import FAST, replicas

PLANTED = "pl4nt3d"
PAGES = ("/", "/status", "/metrics", "/health/readiness", "/health/liveness")


def planted(services: Services, schema: str, platform: Platform) -> dict[str, str]:
    """A replica's environment with the word in every secret; Postgres and pgbouncer let any password in."""
    found = environment(services, schema, platform, **FAST, LOG_LEVEL="DEBUG")
    for name in ("DATABASE_URL", "MIGRATIONS_DATABASE_URL"):
        found[name] = found[name].replace("postgres@", f"postgres:{PLANTED}@")
    found["BOOKING_SERVICE_TOKEN"] = PLANTED
    return found


def test_the_word_is_planted_in_every_secret(services: Services, schema: str, platform: Platform) -> None:
    found = refused_by_rabbitmq(planted(services, schema, platform))
    assert {name for name, value in found.items() if PLANTED in value} == set(SECRETS)


def refused_by_rabbitmq(variables: dict[str, str]) -> dict[str, str]:
    return variables | {"RABBITMQ_URL": variables["RABBITMQ_URL"].replace("guest:guest@", f"guest:{PLANTED}@")}


async def test_a_working_replica_shows_it_nowhere(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    platform.add_model("a")
    platform.call("a")
    platform.fault("booking", Fault.status(401))  # the token is refused, which is an error of its own
    async with replicas(1, planted(services, schema, platform), tmp_path) as (replica,):
        await replica.ready()
        await replica.until(
            lambda page: 'critical_errors_total{reason="booking_rejected"} 0' not in page.text, "/metrics"
        )
        pages = [(await replica.get(page)).text for page in PAGES]
        assert await replica.end() == 0
        log = replica.log.read_text()
    assert "booking_rejected" in log
    assert not [page[:60] for page in pages if PLANTED in page]
    assert PLANTED not in log
    engine = create_engine(services.database_url, schema, 1, 10)
    async with engine.connect() as connection:
        for table in metadata.sorted_tables:
            every = text(f"SELECT t::text FROM {schema}.{table.name} t")  # noqa: S608
            rows = (await connection.execute(every)).scalars()
            assert PLANTED not in "".join(rows), table.name
    await engine.dispose()


async def test_a_replica_whose_password_is_refused_does_not_tell_it(
    services: Services, schema: str, platform: Platform, tmp_path: Path
) -> None:
    variables = refused_by_rabbitmq(planted(services, schema, platform))
    async with replicas(1, variables, tmp_path) as (replica,):
        await replica.until(lambda _: "rabbitmq_unavailable" in replica.log.read_text())
        assert PLANTED not in (await replica.get("/health/readiness")).text
        assert await replica.end() == 0
        assert PLANTED not in replica.log.read_text()


@pytest.mark.parametrize(
    "program",
    [["limiter.ctl", "doctor"], ["limiter.ctl", "status"], ["alembic", "upgrade", "head"]],
    ids=lambda program: " ".join(program[:2]),
)
async def test_the_commands_do_not_tell_it_either(
    services: Services, schema: str, platform: Platform, program: list[str]
) -> None:
    variables = refused_by_rabbitmq(planted(services, schema, platform))
    for name in ("DATABASE_URL", "MIGRATIONS_DATABASE_URL"):
        variables[name] = variables[name].replace("127.0.0.1", "127.0.0.2")  # where nobody listens
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", *program],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout + done.stderr
    assert PLANTED not in done.stdout + done.stderr
