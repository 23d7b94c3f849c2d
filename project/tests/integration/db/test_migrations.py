"""Migrations as an operator runs them, through pgbouncer."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from uuid import uuid4

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from dev.servers.services import Services
from limiter.db.tables import REVISION
from tests.conftest import ROOT, START, alembic, migrate
from tests.old_database import (
    MINUTE,
    Row,
    cancellation,
    command,
    connected,
    decision,
    job_run,
    read,
    sighting,
    spell,
    write,
)


def test_four_upgrades_at_once_all_succeed(services: Services) -> None:
    schema = f"four_{uuid4().hex[:6]}"
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: alembic(services, schema, "upgrade", "head"), range(4)))
    assert [run.returncode for run in done] == [0] * 4, [run.stderr for run in done]


def test_up_down_and_up_again_leave_nothing_to_do(services: Services) -> None:
    schema = f"updown_{uuid4().hex[:6]}"
    for step in (("upgrade", "head"), ("downgrade", "base"), ("upgrade", "head")):
        done = alembic(services, schema, *step)
        assert done.returncode == 0, done.stderr
    checked = alembic(services, schema, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def rows_of_0003() -> dict[str, list[Row]]:
    """A row or two in every table that 0004 renames or renames a column of, and in those that refer to them."""
    warned, enforcing = spell(START), spell(START - MINUTE, user_name="ben", state="enforcing")
    enforced = warned | {"id": uuid4(), "state": "enforced", "reason": "deadline_passed", "closed_at": START - MINUTE}
    uninstall = {"kind": "uninstall", "replicas": None, "state": "planned", "saga_id": None, "failures": 2}
    return {
        "sighting": [
            sighting(START, up_since=START + MINUTE, standing="hold:within_target"),
            sighting(START, down_since=START + 2 * MINUTE, replicas=5),
        ],
        "spell": [warned, enforcing, enforced],
        "cancellation": [
            cancellation(START, enforcing["id"]),
            cancellation(START, enforcing["id"], slot_id="s3", whole=True, state="failed", error="refused"),
        ],
        "command": [command(START), command(START, **uninstall, spell_id=enforcing["id"])],
        "job_run": [
            job_run(START),
            job_run(START - MINUTE, epoch=6, cause="manual", state="failed", ended_at=START, error="registry: 500"),
        ],
    }


def renamed(rows: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The same rows under the names of 0004."""
    tables = {"sighting": "scaling_state", "spell": "idle_spell"}
    columns = {"up_since": "overloaded_since", "down_since": "underused_since"}
    columns |= {"slot": "due_slot", "holder": "replica_id"}
    return {
        tables.get(table, table): [{columns.get(name, name): value for name, value in row.items()} for row in of_table]
        for table, of_table in rows.items()
    }


async def assert_holds(connection: asyncpg.Connection, expected: dict[str, list[Row]]) -> None:
    """Each table has exactly these rows, with every column."""
    for table, rows in expected.items():
        by_value = itemgetter(*(name for name in rows[0] if name in ("id", "model_id", "slot_id", "epoch")))
        assert sorted(await read(connection, table), key=by_value) == sorted(rows, key=by_value), table


async def test_a_database_filled_at_0003_keeps_its_rows_up_and_down(services: Services) -> None:
    schema, old = f"filled_{uuid4().hex[:6]}", rows_of_0003()
    await migrate(services, schema, "upgrade", "0003")
    async with connected(services, schema) as connection:
        await write(connection, old)
        await assert_holds(connection, old)
    await migrate(services, schema, "upgrade", "0004")
    async with connected(services, schema) as connection:
        await assert_holds(connection, renamed(old))
        with pytest.raises(asyncpg.UndefinedTableError):
            await read(connection, "sighting")
    await migrate(services, schema, "downgrade", "0003")
    async with connected(services, schema) as connection:
        await assert_holds(connection, old)


async def test_what_1_0_0_cannot_read_is_gone_when_it_comes_back(services: Services) -> None:
    schema = f"back_{uuid4().hex[:6]}"
    await migrate(services, schema, "upgrade", "0005")
    both = {"decision": "hold", "dry_run": False, "stands": True}
    async with connected(services, schema) as connection:
        await write(connection, {"decision": [decision(START, reason=why, **both) for why in ("kept", "in_use")]})
    await migrate(services, schema, "downgrade", "0003")
    async with connected(services, schema) as connection:
        assert [row["reason"] for row in await read(connection, "decision")] == ["in_use"]


async def test_rules_on_the_renamed_tables_still_hold_for_the_rows_of_0003(services: Services) -> None:
    schema, old = f"rules_{uuid4().hex[:6]}", rows_of_0003()
    await migrate(services, schema, "upgrade", "0003")
    async with connected(services, schema) as connection:
        await write(connection, old)
    await migrate(services, schema, "upgrade", "0004")
    async with connected(services, schema) as connection:
        with pytest.raises(asyncpg.UniqueViolationError, match="uq_idle_spell_open"):
            await write(connection, {"idle_spell": [old["spell"][0] | {"id": uuid4()}]})
        with pytest.raises(asyncpg.UniqueViolationError, match="uq_command_unfinished"):
            await write(connection, {"command": [old["command"][0] | {"id": uuid4()}]})
        with pytest.raises(asyncpg.ForeignKeyViolationError, match="fk_cancellation"):
            await write(connection, {"cancellation": [cancellation(START, uuid4())]})
        await connection.execute("DELETE FROM idle_spell WHERE state = 'enforcing'")
        assert await read(connection, "cancellation") == []


def test_the_service_needs_the_newest_revision() -> None:
    scripts = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    assert scripts.get_current_head() == REVISION


async def test_an_older_version_leaves_a_newer_schema_as_it_is(services: Services) -> None:
    """Compose migrates before it starts replicas, also when they go back to the version before."""
    schema = f"newer_{uuid4().hex[:6]}"
    await migrate(services, schema, "upgrade", "head")
    async with connected(services, schema) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        done = await asyncio.to_thread(alembic, services, schema, "upgrade", "head")
        assert done.returncode == 0, done.stderr
        assert f"schema '{schema}' is at revision 9999, newer than {REVISION}: there is nothing to do" in done.stderr
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == "9999"
        down = await asyncio.to_thread(alembic, services, schema, "downgrade", "0008")
        assert down.returncode != 0, "it does not know what to take back"


def test_a_wrong_database_url_is_explained(services: Services) -> None:
    done = alembic(services, "Bad-Schema", "upgrade", "0004")
    assert done.returncode != 0
    assert "database_schema" in done.stderr.lower()


def test_wrong_settings_are_told_one_a_line(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATIONS_DATABASE_URL", "postgresql://u:s3cret@h/d")
    done = alembic(services, "pg_ours", "upgrade", "head")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "wrong setting: MIGRATIONS_DATABASE_URL=(hidden): must start with postgresql+asyncpg://",
        "wrong setting: DATABASE_SCHEMA='pg_ours': must not begin with pg_: Postgres keeps such names for itself",
    ]


def test_a_database_that_cannot_be_reached_is_told_in_a_line(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATIONS_DATABASE_URL", f"{services.direct_database_url}_missing")
    done = alembic(services, "nowhere", "upgrade", "head")
    assert done.returncode == 1
    assert done.stderr == 'no connection to Postgres: Error: database "postgres_missing" does not exist\n'


async def test_a_role_that_may_not_make_schemas_migrates_the_one_it_was_given(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"given_{uuid4().hex[:6]}"
    connection = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
    try:
        await connection.execute(f"CREATE ROLE {name} LOGIN")
        await connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
    finally:
        await connection.close()
    own = services.direct_database_url.replace("postgres@", f"{name}@")
    monkeypatch.setenv("MIGRATIONS_DATABASE_URL", own)
    await migrate(services, name, "upgrade", "head")
    await migrate(services, name, "check")


async def test_statements_that_somebody_else_runs_make_the_same_schema(services: Services) -> None:
    printed = await asyncio.to_thread(alembic, services, "user", "upgrade", "head", "--sql")
    assert printed.returncode == 0, printed.stderr
    connection = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
    try:
        assert await connection.fetchval("SELECT to_regnamespace('user')") is None, "they were only to be printed"
        await connection.execute(printed.stdout)
        await migrate(services, "user", "check")
    finally:
        await connection.execute('DROP SCHEMA IF EXISTS "user" CASCADE')
        await connection.close()
