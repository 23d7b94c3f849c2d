"""What is remembered of the readings, in Postgres: all of it comes back, however much, and is forgotten in time."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.servers.services import Services
from limiter.db import readings, scaling_states, tables
from limiter.db.engine import create_engine
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.rates import Sample
from limiter.domain.usage import Gap, Memory, TargetMemory, Usage
from tests.conftest import START

HOUR = timedelta(hours=1)
MANY = 100_000


@pytest.fixture
async def engine(services: Services, schema: str) -> AsyncIterator[AsyncEngine]:
    made = create_engine(services.database_url, schema, 1, 60)
    yield made
    await made.dispose()


def target(name: str, at: datetime = START, series: int = 1) -> TargetMemory:
    counters = {f"model_name='m{number}'": float(number) for number in range(series)}
    names = {key: f"m{number}" for number, key in enumerate(counters)}
    return TargetMemory(name, START - HOUR, at, None, 2.5, counters, names)


async def saved(engine: AsyncEngine, before: Memory, after: Memory) -> Memory:
    async with engine.begin() as connection:
        await readings.save(connection, readings.changed(before, after))
        return await readings.load(connection, after.targets)


async def rows(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(getattr(tables, table))) or 0


async def test_a_memory_comes_back_as_it_was_saved(engine: AsyncEngine) -> None:
    full = replace(
        target("a", series=3),
        started_at=1.7e9,
        silent=True,
        matched_at=START - HOUR,
        page_digest=-(2**63),
        stale=True,
        read_as="0123456789abcdef",
    )
    memory = Memory(
        {"a": full, "b": replace(target("b"), page_digest=2**63 - 1)},
        {"m0": Usage(START, (Sample(1.0, 15.0, 3.0),))},
        (Gap("a", START - HOUR, START),),
    )
    assert await saved(engine, Memory(), memory) == memory
    thawed = replace(memory, targets=dict(memory.targets) | {"a": replace(full, stale=False, page_digest=5)})
    assert await saved(engine, memory, thawed) == thawed


async def test_a_restart_with_a_hundred_thousand_series_passes(engine: AsyncEngine) -> None:
    before = Memory({"a": target("a", series=MANY)})
    assert await saved(engine, Memory(), before) == before
    after = Memory({"a": target("a", START + HOUR, series=1)})
    assert await saved(engine, before, after) == after
    assert await rows(engine, "series") == 1


async def test_a_fleet_of_forty_thousand_models_can_go_at_once(engine: AsyncEngine) -> None:
    states = {UUID(int=number): ScalingState(UUID(int=number), "m", 1, START) for number in range(40_000)}
    async with engine.begin() as connection:
        await scaling_states.save(connection, scaling_states.changed({}, states.values(), Fleet(())))
        left = Fleet((ServedModel(UUID(int=0), "m", 1),))
        await scaling_states.save(connection, scaling_states.changed(states, [], left))
        assert list(await scaling_states.load(connection)) == [UUID(int=0)]


async def test_targets_that_are_read_no_more_are_forgotten_in_batches_with_their_series(engine: AsyncEngine) -> None:
    old = [target("gone", START - HOUR, series=250), target("also gone", START - HOUR, series=30)]
    kept = [target("just read", START), target("down for long", START - HOUR, series=2)]
    await saved(engine, Memory(), Memory({one.target: one for one in old + kept}))
    dropped = []
    for _ in range(5):
        async with engine.begin() as connection:
            dropped.append(await readings.forget_targets(connection, START, 100, ["down for long"]))
    assert dropped == [100, 100, 82, 0, 0]
    assert (await rows(engine, "target"), await rows(engine, "series")) == (2, 3)


async def test_without_configured_targets_only_age_counts(engine: AsyncEngine) -> None:
    await saved(engine, Memory(), Memory({"old": target("old", START - HOUR), "new": target("new", START)}))
    async with engine.begin() as connection:
        assert await readings.forget_targets(connection, START, 100) == 2
    assert (await rows(engine, "target"), await rows(engine, "series")) == (1, 1)
