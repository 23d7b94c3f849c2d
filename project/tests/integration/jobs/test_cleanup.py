"""cleanup: nothing grows for ever, nothing unfinished or standing goes, and no external service is needed."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Table, event, func, insert, select

from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import MakeBench

HISTORY, CONTACTS = timedelta(days=7), timedelta(days=365)
SECOND = timedelta(seconds=60)  # generous: the test's own time passes between filling and cleaning
MANY = 25
BATCH = 10
START = datetime(2026, 1, 1, tzinfo=UTC)


def ids(first: int, count: int = MANY) -> list[UUID]:
    return [UUID(int=first + number) for number in range(count)]


async def fill(bench: Bench, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    async with bench.engine.begin() as connection:
        await connection.execute(insert(table), list(rows))


async def clean(bench: Bench) -> None:
    await bench.run(Job.CLEANUP)


def run(epoch: int, started: datetime, state: str = "completed") -> dict[str, Any]:
    row = {"job": "rps_check", "epoch": epoch, "due_slot": started, "cause": "schedule", "replica_id": UUID(int=1)}
    return row | {"state": state, "started_at": started, "ended_at": None if state == "running" else started}


def spell(id: UUID, closed: datetime | None, state: str = "withdrawn") -> dict[str, Any]:
    texts = {"model_name": "m", "user_name": "anna", "state": state, "reason": "used_again"}
    slot = {"reservation_id": "r", "slot_id": "s", "slot_start": START, "slot_end": START, "dry_run": False}
    times = {"idle_since": START, "opened_at": START, "not_before": START, "closed_at": closed}
    return {"id": id, "model_id": id, "user_id": id} | texts | slot | times


def message(id: UUID, published: datetime | None, of: UUID | None = None, stage: str = "warning") -> dict[str, Any]:
    row: dict[str, Any] = {"message_id": id, "spell_id": of, "stage": stage, "routing_key": "k", "body": {}}
    return row | {"published_at": published}


def command(id: UUID, finished: datetime | None, of: UUID | None = None) -> dict[str, Any]:
    row = {"id": id, "model_id": id, "model_name": "m", "kind": "scale_up", "replicas": 2, "reason": "overloaded"}
    state = "completed" if finished else "stuck"
    return row | {
        "state": state,
        "planned_at": START,
        "finished_at": finished,
        "spell_id": of,
    }


def decision(model: UUID, user: UUID | None, at: datetime, stands: bool = False, name: str = "m") -> dict[str, Any]:
    row = {"decided_at": at, "model_id": model, "model_name": name, "user_id": user, "decision": "hold"}
    return row | {"reason": "in_use", "numbers": {}, "dry_run": False, "stands": stands}


def scaling_state(model: UUID) -> dict[str, Any]:
    return {"model_id": model, "model_name": "m", "replicas": 1, "first_seen_at": START, "standing": "hold/in_use"}


def target(url: str, read: datetime) -> dict[str, Any]:
    return {"target": url, "first_read_at": read, "read_at": read, "rate": 0.0}


def series(url: str, number: int) -> dict[str, Any]:
    return {"target": url, "series": f"{number}", "model_name": f"{number}", "value": 1.0}


def rows_that_end(at: datetime) -> dict[Table, list[dict[str, Any]]]:
    """More than two batches of rows in every table that history passes through, ended at one moment."""
    return {
        tables.job_run: [run(number, at) for number in range(1000, 1000 + MANY)],
        tables.idle_spell: [spell(id, at) for id in ids(2000)],
        tables.outbox: [message(id, at) for id in ids(3000)],
        tables.command: [command(id, at) for id in ids(4000)],
        tables.decision: [decision(UUID(int=1), id, at) for id in ids(5000)],
        tables.gap: [{"target": "t", "since": at - timedelta(seconds=n), "until": at} for n in range(MANY)],
        tables.usage: [{"model_name": f"{n}", "last_used_at": at, "samples": "[]"} for n in range(MANY)],
        tables.keep: [{"model_name": "m", "user_id": id, "since": at, "until": at} for id in ids(6000)],
        tables.series: [series("http://removed", number) for number in range(MANY)],
        tables.target: [target("http://removed", at)],
    }


def people(at: datetime) -> dict[Table, list[dict[str, Any]]]:
    return {
        tables.contact: [{"user_id": id, "user_name": "a", "email": "a@b", "learned_at": at} for id in ids(7000)],
        tables.reminder: [{"reservation_id": "r", "model_id": id, "noted_at": at} for id in ids(8000)],
    }


async def left(bench: Bench, table: Table) -> int:
    query = select(func.count()).select_from(table)
    if table is tables.job_run:
        query = query.where(table.c.job != "cleanup")
    async with bench.engine.connect() as connection:
        return await connection.scalar(query) or 0


@pytest.mark.parametrize("gone", [True, False])
async def test_what_ended_before_its_retention_goes_however_much_it_is(make_bench: MakeBench, gone: bool) -> None:
    bench = await make_bench(CLEANUP_BATCH_ROWS=BATCH)
    now, edge = datetime.now(UTC), -SECOND if gone else SECOND
    filled = rows_that_end(now - HISTORY + edge) | people(now - CONTACTS + edge)
    for table, rows in filled.items():
        await fill(bench, table, rows)
    await clean(bench)
    assert {table.name: await left(bench, table) for table in filled} == {
        table.name: 0 if gone else len(rows) for table, rows in filled.items()
    }


async def test_nothing_unfinished_goes_however_old(make_bench: MakeBench) -> None:
    bench = await make_bench(CLEANUP_BATCH_ROWS=BATCH)
    old = datetime.now(UTC) - 10 * CONTACTS
    open_spell, waiting = UUID(int=1), UUID(int=2)
    kept: dict[Table, list[dict[str, Any]]] = {
        tables.job_run: [run(1000, old, "running")],
        tables.idle_spell: [spell(open_spell, None, "enforcing"), spell(waiting, old)],
        # The warning of an open spell says where the closing goes; an unpublished event keeps its spell.
        tables.outbox: [message(UUID(int=1), old, open_spell), message(UUID(int=2), None, waiting)],
        tables.command: [command(UUID(int=1), None), command(UUID(int=2), old, open_spell)],
        tables.keep: [{"model_name": "m", "since": old, "until": datetime.now(UTC) + HISTORY}],
        tables.surge: [{"kind": "warning", "since": old}],
    }
    for table, rows in kept.items():
        await fill(bench, table, rows)
    await clean(bench)
    assert {table.name: await left(bench, table) for table in kept} == {
        table.name: len(rows) for table, rows in kept.items()
    }


async def test_the_steps_of_a_spell_go_with_it(make_bench: MakeBench) -> None:
    bench = await make_bench()
    old = datetime.now(UTC) - 2 * HISTORY
    await fill(bench, tables.idle_spell, [spell(UUID(int=1), old)])
    step = {"spell_id": UUID(int=1), "reservation_id": "r", "slot_start": old, "slot_end": old, "state": "done"}
    await fill(bench, tables.cancellation, [step | {"slot_id": f"{number}"} for number in range(MANY)])
    await clean(bench)
    assert await left(bench, tables.cancellation) == 0


RUNNING, GONE, ANNA = UUID(int=1), UUID(int=2), UUID(int=101)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([decision(RUNNING, ANNA, START, stands=True)], [0]),
        ([decision(RUNNING, ANNA, START), decision(RUNNING, ANNA, START, stands=True)], [1]),
        ([decision(RUNNING, None, START)], [0]),
        ([decision(RUNNING, None, START), decision(RUNNING, None, START)], [1]),
        ([decision(RUNNING, None, START), decision(RUNNING, ANNA, START, stands=True)], [0, 1]),
        ([decision(GONE, None, START), decision(GONE, ANNA, START)], []),
        ([decision(GONE, ANNA, START, stands=True)], [0]),
    ],
    ids=["a booking's", "its latest", "a model's", "its latest", "both", "a gone model's", "a gone model's booking's"],
)
async def test_the_standing_decision_stays_however_old(
    make_bench: MakeBench, rows: list[dict[str, Any]], kept: list[int]
) -> None:
    bench = await make_bench()
    old = datetime.now(UTC) - 2 * HISTORY
    await fill(bench, tables.scaling_state, [scaling_state(RUNNING)])
    for row in rows:
        await fill(bench, tables.decision, [row | {"decided_at": old}])
    before = [row.id for row in await bench.rows(tables.decision)]
    await clean(bench)
    assert [row.id for row in await bench.rows(tables.decision)] == [before[place] for place in kept]


@pytest.mark.parametrize(("model", "left_over"), [(RUNNING, 1), (GONE, 0)])
async def test_even_a_standing_decision_goes_long_after_its_model(
    make_bench: MakeBench, model: UUID, left_over: int
) -> None:
    bench = await make_bench()
    await fill(bench, tables.scaling_state, [scaling_state(RUNNING)])
    await fill(bench, tables.decision, [decision(model, ANNA, datetime.now(UTC) - CONTACTS - SECOND, stands=True)])
    await clean(bench)
    assert await left(bench, tables.decision) == left_over


async def test_a_target_that_is_still_to_be_read_stays_with_its_series(make_bench: MakeBench) -> None:
    """An Entrypoint away for weeks: what it counted before proves use when it is back."""
    bench = await make_bench(CLEANUP_BATCH_ROWS=BATCH)
    url, old = bench.settings.entrypoint_metrics_urls[0], datetime.now(UTC) - 2 * HISTORY
    await fill(bench, tables.target, [target(url, old), target("http://removed", old)])
    await fill(
        bench, tables.series, [series(name, number) for name in (url, "http://removed") for number in range(MANY)]
    )
    await clean(bench)
    assert {row.target for row in await bench.rows(tables.target)} == {url}
    assert await left(bench, tables.series) == MANY


async def test_it_drops_in_batches_each_in_a_short_transaction(make_bench: MakeBench) -> None:
    bench = await make_bench(CLEANUP_BATCH_ROWS=BATCH)
    await fill(bench, tables.outbox, [message(id, datetime.now(UTC) - 2 * HISTORY) for id in ids(3000)])
    deleted: list[int] = []

    @event.listens_for(bench.engine.sync_engine, "after_cursor_execute")
    def count(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if statement.startswith("DELETE") and ".outbox WHERE" in statement.replace("\n", " "):
            deleted.append(cursor.rowcount)

    await clean(bench)
    assert deleted == [BATCH, BATCH, MANY - 2 * BATCH]


async def test_it_stops_when_it_is_paused_and_goes_on_later(make_bench: MakeBench) -> None:
    bench = await make_bench(CLEANUP_BATCH_ROWS=BATCH)
    await fill(bench, tables.outbox, [message(id, datetime.now(UTC) - 2 * HISTORY) for id in ids(3000)])
    pauses = 0

    async def pause_once(*_: Any) -> bool:
        nonlocal pauses
        pauses += 1
        return await left(bench, tables.outbox) < MANY

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limiter.runner.run.Run.braked", pause_once)
        await clean(bench)
    assert pauses
    assert await left(bench, tables.outbox) == MANY - BATCH
    await clean(bench)
    assert await left(bench, tables.outbox) == 0


async def test_it_needs_no_external_service(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await bench.platform.stop()
    await fill(bench, tables.outbox, [message(id, datetime.now(UTC) - 2 * HISTORY) for id in ids(3000)])
    await clean(bench)
    assert await left(bench, tables.outbox) == 0
    assert bench.criticals() == {}


async def test_a_row_that_somebody_writes_now_is_left_alone(make_bench: MakeBench) -> None:
    """An address learned anew in this moment must not go by what it was before."""
    bench = await make_bench()
    old = datetime.now(UTC) - 2 * CONTACTS
    contact = {"user_name": "a", "email": "a@b", "learned_at": old}
    await fill(bench, tables.contact, [contact | {"user_id": id} for id in ids(7000, 2)])
    async with bench.engine.begin() as connection:
        await connection.execute(
            tables.contact.update().where(tables.contact.c.user_id == UUID(int=7000)).values(learned_at=func.now())
        )
        await clean(bench)
    assert [row.user_id for row in await bench.rows(tables.contact)] == [UUID(int=7000)]
