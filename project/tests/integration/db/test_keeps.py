"""Keeps and surges in Postgres, through pgbouncer."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from dev.servers.services import Services
from limiter.db import keeps, surges
from limiter.db.engine import create_engine
from limiter.domain.keep import Keep
from limiter.domain.surge import Surge, SurgeKind
from tests.conftest import START

ANN, BEN = UUID(int=1), UUID(int=2)
HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)
END = START + HOUR


def keep(user: UUID | None = ANN, until: datetime = END, model: str = "m") -> Keep:
    return Keep(model, user, START, until, "a demo", "ann")


@pytest.fixture
async def connection(services: Services, schema: str) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(services.database_url, schema, 1, 10)
    async with engine.begin() as connection:
        yield connection
    await engine.dispose()


async def test_a_keep_is_read_as_it_was_added(connection: AsyncConnection) -> None:
    for one in (keep(), keep(None)):
        assert await keeps.add(connection, one) == END
    assert await keeps.active_or_ended_since(connection, START) == [keep(), keep(None)]


async def test_of_the_same_keep_twice_the_later_end_holds(connection: AsyncConnection) -> None:
    assert await keeps.add(connection, keep(until=END + HOUR)) == END + HOUR
    assert await keeps.add(connection, keep()) == END + HOUR
    assert await keeps.add(connection, keep(BEN)) == END
    assert await keeps.add(connection, keep(None, END + TICK)) == END + TICK


async def test_an_ended_keep_is_read_as_long_as_it_may_excuse_idle_time(connection: AsyncConnection) -> None:
    await keeps.add(connection, keep())
    assert await keeps.active_or_ended_since(connection, END - TICK) == [keep()]
    assert await keeps.active_or_ended_since(connection, END) == []


async def test_unkeep_ends_every_open_keep_of_exactly_that_user(connection: AsyncConnection) -> None:
    at = START + HOUR / 2
    others = [keep(BEN), keep(None), keep(model="n")]
    for one in (keep(), keep(until=END + HOUR), *others):
        await keeps.add(connection, one)
    assert await keeps.end(connection, "m", ANN, at) == 2
    assert await keeps.end(connection, "m", ANN, at) == 0
    found = await keeps.active_or_ended_since(connection, START)
    assert [(one.user_id, one.until) for one in found[:2]] == [(ANN, at)] * 2
    assert found[2:] == others


async def test_unkeep_for_all_leaves_the_keeps_of_single_users(connection: AsyncConnection) -> None:
    for one in (keep(), keep(None)):
        await keeps.add(connection, one)
    assert await keeps.end(connection, "m", None, START) == 1
    assert await keeps.active_or_ended_since(connection, START) == [keep()]


async def test_a_keep_that_is_over_is_not_ended_again(connection: AsyncConnection) -> None:
    await keeps.add(connection, keep())
    assert await keeps.end(connection, "m", ANN, END) == 0
    assert await keeps.active_or_ended_since(connection, START) == [keep()]


async def test_in_force_are_those_of_the_model_that_are_not_over_the_longest_first(connection: AsyncConnection) -> None:
    for one in (keep(), keep(None, END + HOUR), keep(BEN, END - TICK), keep(model="n")):
        await keeps.add(connection, one)
    assert await keeps.in_force(connection, "m", END - TICK, 10) == [keep(None, END + HOUR), keep()]
    assert await keeps.in_force(connection, "m", END - TICK, 1) == [keep(None, END + HOUR)]


async def test_keeps_go_along_to_a_new_name_and_back_without_growing_in_number(connection: AsyncConnection) -> None:
    mine = [keep(), keep(None, END + HOUR)]
    for one in (*mine, keep(BEN, model="other")):
        await keeps.add(connection, one)
    for names in (("m", "k"), ("k", "m"), ("m", "k")):
        await keeps.go_along(connection, [names])
    for name in ("m", "k"):
        of_name = [keep(None, END + HOUR, name), keep(model=name)]
        assert await keeps.in_force(connection, name, START, 10) == of_name


@pytest.mark.parametrize("renamed", [(("m", "k"), ("k", "j")), (("k", "j"), ("m", "k"))])
async def test_of_names_that_move_up_together_each_takes_its_own_keeps_along(
    connection: AsyncConnection, renamed: tuple[tuple[str, str], ...]
) -> None:
    for one in (keep(), keep(BEN, model="k")):
        await keeps.add(connection, one)
    await keeps.go_along(connection, renamed)
    assert await keeps.in_force(connection, "j", START, 10) == [keep(BEN, model="j")]
    assert {one.user_id for one in await keeps.in_force(connection, "k", START, 10)} == {ANN, BEN}
    await keeps.go_along(connection, ())


async def test_a_surge_begins_once_and_is_forgotten_when_it_ends(connection: AsyncConnection) -> None:
    warning = SurgeKind.WARNING
    assert await surges.begin(connection, warning, START)
    assert not await surges.begin(connection, warning, END)
    assert await surges.begin(connection, SurgeKind.CANCELLING, END)
    await surges.end(connection, SurgeKind.CANCELLING)
    assert await surges.load(connection) == {warning: Surge(warning, START)}
    await surges.end(connection, warning)
    assert await surges.begin(connection, warning, END)


async def test_allowing_marks_all_surges_that_stand_and_keeps_who_allowed_first(connection: AsyncConnection) -> None:
    warning, cancelling = SurgeKind.WARNING, SurgeKind.CANCELLING
    assert await surges.allow(connection, START, "ann") == []
    await surges.begin(connection, warning, START)
    assert await surges.allow(connection, END, "ann") == [warning]
    await surges.begin(connection, cancelling, END)
    assert await surges.allow(connection, END + HOUR, None) == [cancelling, warning]
    assert await surges.load(connection) == {
        warning: Surge(warning, START, END, "ann"),
        cancelling: Surge(cancelling, END, END + HOUR, None),
    }
