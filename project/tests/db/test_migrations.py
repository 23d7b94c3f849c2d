"""Migrations as an operator runs them, through pgbouncer."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from alembic.config import Config
from alembic.script import ScriptDirectory

from dev.services import Services
from limiter.db.tables import REVISION
from tests.conftest import ROOT, alembic


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


def test_the_service_needs_the_newest_revision() -> None:
    scripts = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini")))
    assert scripts.get_current_head() == REVISION


def test_a_wrong_database_url_is_explained(services: Services) -> None:
    done = alembic(services, "Bad-Schema", "upgrade", "head")
    assert done.returncode != 0
    assert "database_schema" in done.stderr.lower()
