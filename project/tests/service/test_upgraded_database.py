"""A replica on a database that the code before revision 0004 filled: what was begun there goes on here."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.platform import Platform, ServedModel
from dev.servers.services import Services
from limiter.app import wait_for_database
from limiter.db import tables
from limiter.db.engine import SchemaMissing
from limiter.domain.job import Job
from tests.bench import open_bench
from tests.conftest import START, migrate
from tests.old_database import MINUTE, Row, cancellation, command, connected, decision, job_run, sighting, spell, write
from tests.service.test_status import got

ANN, BEN = UUID(int=1), UUID(int=2)
HOUR = 60 * MINUTE
NOW = START + HOUR  # the old replica ran from START until a moment ago


@pytest.fixture
async def old_schema(services: Services) -> AsyncIterator[str]:
    """A schema of this test's own, at revision 0003."""
    schema = f"upgraded_{uuid4().hex[:6]}"
    await migrate(services, schema, "upgrade", "0003")
    yield schema
    async with connected(services, schema) as connection:
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")


def booked(platform: Platform, user: UUID, name: str, model: ServedModel, state: str) -> tuple[Row, Row]:
    """Two slots booked by the user, the first of them current; his spell, and the cancellation of the second."""
    slots = [(START, NOW + HOUR), (NOW + HOUR, NOW + 2 * HOUR)]
    reservation = platform.add_reservation(str(user), name, model.name, slots=slots)
    current, following = reservation.slots
    of_user = {"model_id": model.id, "model_name": model.name, "user_id": user, "user_name": name}
    booking = {"reservation_id": reservation.id, "slot_id": current.id, "slot_start": START, "slot_end": NOW + HOUR}
    warned = spell(NOW - 15 * MINUTE, state=state, **of_user, **booking)
    step = {"reservation_id": reservation.id, "slot_id": following.id}
    return warned, cancellation(NOW + HOUR, warned["id"], **step)


async def scaled(platform: Platform, model: ServedModel, replicas: int) -> Row:
    """A command that the platform has taken from the old replica, as that recorded it."""
    async with httpx.AsyncClient(base_url=platform.dispatcher_url, trust_env=False) as client:
        body = {"modelId": str(model.id), "replicas": replicas}
        taken = (await client.post("/v1/command/scale", json=body)).raise_for_status()
    about = {"model_id": model.id, "model_name": model.name, "replicas": replicas}
    return command(NOW - MINUTE, **about, saga_id=UUID(taken.json()["id"]))


async def left_behind(platform: Platform) -> dict[str, list[Row]]:
    """The platform, and the rows of a replica that ended in a run of idle_enforce."""
    unused, other, busy = (platform.add_model(name) for name in ("unused", "other", "busy"))
    platform.add_model("used")
    platform.call("used")
    anns, _ = booked(platform, ANN, "ann", unused, "warned")
    bens, planned = booked(platform, BEN, "ben", other, "enforcing")
    reading = {"first_read_at": START, "read_at": NOW - MINUTE, "started_at": START.timestamp(), "rate": 0.0}
    return {
        "target": [{"target": url, "silent": False} | reading for url in platform.metrics_urls],
        "sighting": [sighting(START, model_id=model.id, model_name=model.name) for model in (unused, other, busy)],
        "spell": [anns, bens],
        "cancellation": [planned],
        "command": [await scaled(platform, busy, 3)],
        "decision": [decision(NOW - MINUTE, dry_run=False, stands=True)],
        "job": [{"name": "idle_enforce", "epoch": 7, "next_due_at": NOW, "running_epoch": 7, "attempts": 1}],
        "job_run": [job_run(NOW - MINUTE, epoch=7)],
    }


async def test_a_begun_cancelling_goes_on_a_warning_that_named_nothing_is_withdrawn_and_the_command_is_settled(
    services: Services, platform: Platform, time: FrozenDateTimeFactory, old_schema: str
) -> None:
    time.move_to(NOW)
    rows = await left_behind(platform)
    async with connected(services, old_schema) as connection:
        await write(connection, rows)
    await migrate(services, old_schema, "upgrade", "head")
    async with open_bench(services, old_schema, platform) as bench:
        assert platform.deletions == []
        await bench.run(Job.SAGA_POLL, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
        gone = {
            (UUID(one.user.id), slot.id, datetime.fromtimestamp(slot.start, UTC))
            for one in platform.deletions
            for slot in one.slots
        }
        following = {UUID(one.user.id): one.slots for one in platform.reservations}
        assert {(user, start) for user, _, start in gone} == {(BEN, NOW + HOUR)}
        assert {user: len(slots) for user, slots in following.items()} == {ANN: 2, BEN: 1}
        spells = [(row.user_id, row.state, row.closed_at) for row in await bench.rows(tables.idle_spell)]
        assert sorted(spells) == [(ANN, "withdrawn", NOW), (BEN, "enforced", NOW)]
        assert {row.state for row in await bench.rows(tables.cancellation)} == {"done"}
        (settled,) = await bench.rows(tables.command)
        assert (settled.id, settled.state) == (rows["command"][0]["id"], "completed")
        heard = [(event["user"]["id"], event["reservation"]) for event in await bench.events()]
        closings = sorted((user, what["stage"], what["closing_reason"]) for user, what in heard)
        assert closings == [(str(ANN), "withdrawn", "nothing_left"), (str(BEN), "cancelled", None)]
        runs = {(row.job, row.epoch): row.state for row in await bench.rows(tables.job_run)}
        assert runs["idle_enforce", 7] == "lost"
        assert runs["idle_enforce", 8] == "completed"
        await bench.run(Job.IDLE_WARNING)
        shown = [(one["decision"], one["reason"]) for one in (await got(bench, "/status")).json()["decisions"]]
        assert ("withdraw", "booking_gone") in shown
    assert platform.violations == []


async def test_before_the_upgrade_no_replica_starts(services: Services, platform: Platform, old_schema: str) -> None:
    async with connected(services, old_schema) as connection:
        await connection.execute("SELECT 1 FROM sighting")
    with pytest.raises(SchemaMissing, match="is at revision 0003, 0009 is needed: run `alembic upgrade head`"):
        async with open_bench(services, old_schema, platform) as bench:
            await wait_for_database(bench.settings, bench.replica)
