"""How Postgres carries out the service's own statements once the tables are full of history."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from dev.servers.services import Services
from limiter.db import outbox, tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.test_control import ask
from tests.service.test_status import got

ROWS = 20_000
ANN = "00000000-0000-0000-0000-0000000000a1"
# Of each table that grows with history, rows as a finished past leaves them.
HISTORY = {
    "decision": "(decided_at, model_id, model_name, decision, reason, numbers, dry_run, stands) SELECT {past}, "
    "md5((n % 100)::text)::uuid, 'model' || n % 100, 'hold', 'within_target', '{{}}', false, false",
    "command": "(id, model_id, model_name, kind, state, reason, planned_at, sent_at, finished_at) SELECT "
    "gen_random_uuid(), md5((n % 100)::text)::uuid, 'model' || n % 100, 'scale_up', 'completed', 'overloaded', "
    "{past}, {past}, {past}",
    "outbox": "(message_id, spell_id, stage, routing_key, body, published_at) SELECT gen_random_uuid(), "
    "gen_random_uuid(), 'warning', 'key', '{{}}', {past}",
    "job_run": "(job, epoch, due_slot, cause, replica_id, state, started_at, ended_at) SELECT "
    "'rps_check', -n, {past}, 'schedule', gen_random_uuid(), 'completed', {past}, {past}",
    "idle_spell": "(id, model_id, model_name, user_id, user_name, state, reason, opened_at, idle_since, not_before, "
    "closed_at, reservation_id, slot_id, slot_start, slot_end, dry_run) SELECT md5('s' || n)::uuid, "
    "md5((n % 100)::text)::uuid, 'model' || n % 100, md5('u' || n)::uuid, 'user', 'enforced', 'unused', {past}, "
    "{past}, {past}, {past}, "
    "'r', 's', {past}, {past}, false",
    "cancellation": "(spell_id, slot_id, reservation_id, slot_start, slot_end, state) SELECT md5('s' || n)::uuid, "
    "'s', 'r' || n, {past}, {past}, 'done'",
}
PAST = "now() - interval '1 day' - n * interval '1 second'"


@pytest.fixture
async def full(services: Services, make_bench: MakeBench) -> AsyncIterator[Bench]:
    """A service whose tables are full, and whose statements Postgres explains in its log."""
    bench = await make_bench()
    async with bench.engine.begin() as connection:
        for table, rows in HISTORY.items():
            into = f"INSERT INTO {bench.settings.database_schema}.{table} {rows.format(past=PAST)}"
            await connection.execute(text(f"{into} FROM generate_series(1, {ROWS}) n"))
    async with bench.engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("ANALYZE"))
        for setting in ("session_preload_libraries = 'auto_explain'", "auto_explain.log_min_duration = 0"):
            await connection.execute(text(f"ALTER DATABASE postgres SET {setting}"))
    services.pgbouncer.console("RECONNECT")
    yield bench
    async with bench.engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("SELECT 1"))
        for name in ("session_preload_libraries", "auto_explain.log_min_duration"):
            await connection.execute(text(f"ALTER DATABASE postgres RESET {name}"))
    services.pgbouncer.console("RECONNECT")


async def test_no_scan_grows_with_history(services: Services, full: Bench) -> None:
    bench, log = full, services.postgres.log
    begin = log.stat().st_size
    bench.platform.add_model("model1")
    bench.platform.set_rate("model1", 50.0)
    slots = [(START - timedelta(hours=1), START + timedelta(days=400))]
    bench.platform.add_reservation(ANN, "ann", "model1", slots=slots)
    for job in (*Job, *Job):
        await bench.attempt(job)
    await got(bench, "/")
    await got(bench, "/metrics")
    await ask(bench, {"command": "explain", "model": "model1"})
    plans = log.read_bytes()[begin:].decode(errors="replace")
    assert plans.count("Query Text:") > 50
    scanned = {table for table in HISTORY if re.search(rf"Seq Scan on {table}\b", plans)}
    assert scanned == set(), "\n".join(part for part in plans.split("LOG:") if "Seq Scan on" in part)


async def test_ten_thousand_events_that_wait_are_not_compared_with_each_other(full: Bench) -> None:
    """Half of them withdrawals that came back, half warnings of the same bookings, which must wait for them."""
    schema = full.settings.database_schema
    waiting = f"""INSERT INTO {schema}.outbox (message_id, spell_id, stage, routing_key, body, next_attempt_at)
        SELECT gen_random_uuid(), md5(stage || n)::uuid, stage, 'key', jsonb_build_object('user',
            jsonb_build_object('id', 'u' || n), 'reservation', jsonb_build_object('model_id', 'm')), now() + again
        FROM (VALUES ('withdrawn', interval '1 hour'), ('warning', interval '0')) AS stages (stage, again),
            generate_series(1, 5000) n ORDER BY stage DESC, n"""  # noqa: S608 - our own name
    async with full.engine.begin() as connection:
        await connection.execute(text(waiting))  # of which the statistics, of a quiet past, know nothing
    async with full.engine.begin() as connection, asyncio.timeout(3):  # the bar is for a busy machine: it takes 0.1 s
        assert not await connection.scalar(select(outbox.has_work()))
        assert await outbox.take(connection, 100, {"warning": "key"}) == []
    async with full.engine.begin() as connection, asyncio.timeout(3):
        sent = tables.outbox.update().where(tables.outbox.c.stage == "withdrawn")
        await connection.execute(sent.values(published_at=func.now()))
        assert await connection.scalar(select(outbox.has_work()))
        assert len(await outbox.take(connection, 100, {"warning": "key"})) == 100
