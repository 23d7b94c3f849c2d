"""The ledger: one unfinished command per model, sent once whoever tries, and ended only as it was judged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.servers.services import Services
from limiter.db import ledger, settlement, tables
from limiter.db.engine import create_engine
from limiter.domain.command import Command, CommandKind, CommandState
from limiter.domain.decision import Reason
from tests.conftest import START

ENDED = (CommandState.COMPLETED, CommandState.FAILED)


@pytest.fixture
async def engine(services: Services, schema: str) -> AsyncIterator[AsyncEngine]:
    yield (engine := create_engine(services.database_url, schema, 5, 10))
    await engine.dispose()


def intent(name: str = "m", model_id: UUID | None = None) -> Command:
    return Command(uuid4(), model_id or uuid4(), name, CommandKind.SCALE_UP, 2, CommandState.PLANNED, START)


async def plan(engine: AsyncEngine, *intents: Command) -> set[UUID]:
    async with engine.begin() as connection:
        return await ledger.plan(connection, intents, dict.fromkeys((one.id for one in intents), Reason.OVERLOADED))


async def sent(engine: AsyncEngine, command: Command) -> bool:
    async with engine.begin() as connection:
        return await ledger.mark_sent(connection, command.id, START)


async def settled(engine: AsyncEngine, command: Command, state: CommandState = CommandState.FAILED) -> bool:
    async with engine.begin() as connection:
        return await settlement.settle(connection, command, state, START, "ended")


async def stored(engine: AsyncEngine, command: Command) -> Command:
    async with engine.connect() as connection:
        row = (await connection.execute(select(tables.command).where(tables.command.c.id == command.id))).one()
    return ledger.command_of(row)


@pytest.mark.parametrize("models", [4_000, 40_000])
async def test_the_commands_of_a_whole_fleet_are_planned_in_one_call(engine: AsyncEngine, models: int) -> None:
    intents = [intent() for _ in range(models)]
    assert await plan(engine, *intents) == {one.id for one in intents}
    again = [intent(model_id=one.model_id) for one in intents]
    fresh = intent()
    assert await plan(engine, *again, fresh) == {fresh.id}


async def test_what_is_planned_is_read_back_as_it_was(engine: AsyncEngine) -> None:
    first = replace(intent(), failures=3, spell_id=uuid4())
    second = replace(intent(), kind=CommandKind.UNINSTALL, replicas=None)
    dry = replace(intent(), state=CommandState.DRY_RUN, finished_at=START)
    await plan(engine, first, second, dry)
    assert [await stored(engine, one) for one in (first, second, dry)] == [first, second, dry]


async def test_of_two_commands_for_one_model_in_one_call_one_is_taken(engine: AsyncEngine) -> None:
    first = intent()
    assert len(await plan(engine, first, intent(model_id=first.model_id))) == 1


async def test_nothing_planned_is_nothing_done(engine: AsyncEngine) -> None:
    assert await plan(engine) == set()


async def test_of_many_senders_at_once_one_sends(engine: AsyncEngine) -> None:
    command = intent()
    await plan(engine, command)
    assert sorted(await asyncio.gather(*(sent(engine, command) for _ in range(5)))) == [False] * 4 + [True]
    assert (await stored(engine, command)).sent_at == START


@pytest.mark.parametrize("state", ENDED)
async def test_what_was_ended_is_not_sent(engine: AsyncEngine, state: CommandState) -> None:
    command = intent()
    await plan(engine, command)
    assert await settled(engine, command, state)
    assert not await sent(engine, command)


async def test_a_command_judged_as_never_sent_is_not_ended_once_it_is_sent(engine: AsyncEngine) -> None:
    command = intent()
    await plan(engine, command)
    assert await sent(engine, command)
    assert not await settled(engine, command)
    assert await settled(engine, replace(command, sent_at=START))


async def test_a_command_judged_as_lost_is_not_ended_once_its_answer_has_come(engine: AsyncEngine) -> None:
    command = replace(intent(), sent_at=START)
    await plan(engine, command)
    await sent(engine, command)
    async with engine.begin() as connection:
        assert await ledger.submitted(connection, command.id, uuid4())
        assert not await settlement.mark_stuck(connection, command, "too long")
    assert not await settled(engine, command)
    assert (await stored(engine, command)).state is CommandState.SUBMITTED


async def test_an_answer_frees_a_stuck_command_that_had_none(engine: AsyncEngine) -> None:
    command = intent()
    await plan(engine, command)
    async with engine.begin() as connection:
        assert await settlement.mark_stuck(connection, command, "too long")
        assert not await settlement.mark_stuck(connection, command, "too long")
        assert await ledger.submitted(connection, command.id, uuid4())
    assert (await stored(engine, command)).state is CommandState.SUBMITTED


async def answered_late(engine: AsyncEngine, command: Command, saga: UUID) -> bool:
    async with engine.begin() as connection:
        assert not await ledger.submitted(connection, command.id, saga)
        return await ledger.take_up(connection, command.id, saga)


async def test_a_late_answer_takes_a_failed_command_up_again_without_the_failure(engine: AsyncEngine) -> None:
    command, saga = replace(intent(), failures=2), uuid4()
    await plan(engine, command)
    await settled(engine, command)
    assert (await stored(engine, command)).failures == 3
    assert await answered_late(engine, command, saga)
    assert await stored(engine, command) == replace(command, state=CommandState.SUBMITTED, saga_id=saga)


async def test_a_late_answer_leaves_a_completed_command_completed_and_is_remembered(engine: AsyncEngine) -> None:
    command, saga = intent(), uuid4()
    await plan(engine, command)
    await settled(engine, command, CommandState.COMPLETED)
    assert not await answered_late(engine, command, saga)
    now = await stored(engine, command)
    assert (now.state, now.saga_id) == (CommandState.COMPLETED, saga)


async def test_a_late_answer_leaves_a_failed_command_failed_while_another_is_unfinished(engine: AsyncEngine) -> None:
    command, saga = intent(), uuid4()
    await plan(engine, command)
    await settled(engine, command)
    await plan(engine, intent(model_id=command.model_id))
    assert not await answered_late(engine, command, saga)
    now = await stored(engine, command)
    assert (now.state, now.saga_id) == (CommandState.FAILED, saga)


async def test_a_command_planned_at_the_very_moment_of_a_late_answer_wins(engine: AsyncEngine) -> None:
    command, saga = intent(), uuid4()
    await plan(engine, command)
    await settled(engine, command)
    other = intent(model_id=command.model_id)
    async with engine.begin() as unseen:
        await ledger.plan(unseen, [other], {other.id: Reason.OVERLOADED})
        late = asyncio.create_task(answered_late(engine, command, saga))
        await asyncio.sleep(0.2)  # it waits for the other's commit
        assert not late.done()
    assert not await late
    now = await stored(engine, command)
    assert (now.state, now.saga_id) == (CommandState.FAILED, saga)


@pytest.mark.parametrize("state", ENDED)
async def test_a_person_ends_the_unfinished_commands_of_every_instance_of_a_model(
    engine: AsyncEngine, state: CommandState
) -> None:
    open_, other_instance, ended, other_model = intent(), intent(), intent(), intent("other")
    await plan(engine, open_, other_instance, ended, other_model)
    await settled(engine, ended, CommandState.COMPLETED)
    at = START + timedelta(minutes=5)
    async with engine.begin() as connection:
        settled_now = await settlement.settle_by_hand(connection, "m", state, at, "ann: looked")
        assert await settlement.settle_by_hand(connection, "m", state, at, "ann: looked") == []
    assert {one.id for one in settled_now} == {open_.id, other_instance.id}
    assert {(one.state, one.finished_at, one.failures) for one in settled_now} == {
        (state, at, int(state is CommandState.FAILED))
    }
    assert (await stored(engine, other_model)).unfinished


@pytest.mark.parametrize("others", [0, 2000])
async def test_of_few_models_and_of_a_whole_fleet_those_commands_are_found_that_lasted_long(
    engine: AsyncEngine, others: int
) -> None:
    """What was planned since then is known already: of a large fleet it is too much to be read twice."""
    hour = timedelta(hours=1)
    long, short, old, strange = (replace(intent(), state=CommandState.COMPLETED, finished_at=START) for _ in range(4))
    long, strange = (replace(one, planned_at=START - 3 * hour) for one in (long, strange))
    old = replace(old, planned_at=START - 3 * hour, finished_at=START - 2 * hour)
    await plan(engine, long, short, old, strange)
    fleet = {one.model_id for one in (long, short, old)} | {uuid4() for _ in range(others)}
    async with engine.connect() as connection:
        assert await ledger.ended(connection, fleet, START - hour) == {long.model_id: long}
