"""What is written, on real servers: rows through pgbouncer, updates in place, confirmed events; by the clock."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import aio_pika
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange
from sqlalchemy import Index, MetaData, Table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.bench.row import Row
from dev.servers.replica import migrate, servers
from limiter.clients.notifier import Notifier
from limiter.db.bulk import upsert
from limiter.db.engine import create_engine
from limiter.db.readings import SERIES
from limiter.db.tables import series

SCHEMA = "bench"
ROWS, CHANGED, UPDATES = 10_000, 1_000, 60
EVENTS, WINDOW, KEY = 1_000, 100, "reservation.no_use"
BODY = {"reservation": {"stage": "warning", "id": "0" * 36}, "user": {"id": "0" * 36, "email": "ann@example.org"}}


async def least(work: Callable[[], Awaitable[None]], times: int = 5) -> float:
    """The fewest seconds that the work takes."""
    found = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        await work()
        found = min(found, time.perf_counter() - began)
    return found


def rows(count: int, value: float) -> list[tuple[str, str, str, float]]:
    return [("a", f'{{model_name="model-{number}"}}', f"model-{number}", value) for number in range(count)]


async def write_all(engine: AsyncEngine, table: Table, count: int, value: float) -> None:
    """As rps_check writes what it remembers."""
    async with engine.begin() as connection:
        await upsert(connection, table, SERIES, rows(count, value))


async def changed_rows(engine: AsyncEngine) -> Row:
    """The rows that changed, in one statement, beside all rows, one after the other."""
    values = iter(range(1, 1_000_000))
    await write_all(engine, series, ROWS, 0)
    statement = insert(series)
    rival = statement.on_conflict_do_update(index_elements=SERIES[:2], set_={"value": statement.excluded.value})

    async def one_by_one() -> None:
        value = next(values)
        async with engine.begin() as connection:
            await connection.execute(rival, [dict(zip(SERIES, row, strict=True)) for row in rows(ROWS, value)])

    ours = await least(lambda: write_all(engine, series, CHANGED, next(values)))
    return Row(f"write {CHANGED:,} changed of {ROWS:,} rows", ours, await least(one_by_one, 2), None, "at most 1/9")


async def updates_in_place(engine: AsyncEngine) -> Row:
    """Full updates of a table of ours, and of the same table with full pages and an index on what changes."""
    plain = series.to_metadata(MetaData(), name="plain")
    plain.dialect_options["postgresql"]["with"] = {"fillfactor": 100}
    plain.primary_key.name = "pk_plain"
    Index("ix_plain_value", plain.c.value)
    async with engine.begin() as connection:
        await connection.run_sync(plain.create)
    took, found = list[float](), list[tuple[float, float]]()
    for table in (series, plain):
        await write_all(engine, table, ROWS, 0)
        began, size = time.perf_counter(), await _size(engine, table)
        before = await _updates(engine, table)
        for value in range(1, UPDATES + 1):
            await write_all(engine, table, ROWS, value)
        took.append(time.perf_counter() - began)
        after = await _updates(engine, table, before[0] + UPDATES * ROWS)
        in_place = (after[1] - before[1]) / (after[0] - before[0])
        found.append((in_place, await _size(engine, table) / size))
    note = "; ".join(f"{100 * in_place:.1f} % in place, {growth:.1f} x as large" for in_place, growth in found)
    bar = "99 % in place, 1.1 x as large"
    return Row(f"update {ROWS:,} rows {UPDATES} times", took[0], took[1], None, bar, note)


async def _size(engine: AsyncEngine, table: Table) -> float:
    async with engine.connect() as connection:
        found = await connection.scalar(text(f"SELECT pg_relation_size('{SCHEMA}.{table.name}')"))
    return float(found or 0)


async def _updates(engine: AsyncEngine, table: Table, at_least: int = 0) -> tuple[int, int]:
    """How many rows were updated and how many of them in place, once Postgres has counted so many."""
    counters = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = :s AND relname = :t")
    async with asyncio.timeout(60):
        while True:
            async with engine.connect() as connection:
                all, in_place = (await connection.execute(counters, {"s": SCHEMA, "t": table.name})).one()
            if all >= at_least:
                return int(all), int(in_place)
            await asyncio.sleep(0.2)


async def confirmed_events(url: str) -> Row:
    """A window of events at once, beside one after the other, and beside a channel that confirms nothing."""
    exchange = RabbitExchange("bench", type=ExchangeType.TOPIC, durable=True)
    async with await aio_pika.connect(url) as connection, RabbitBroker(url, default_channel=Channel()) as broker:
        channel = await connection.channel()
        queue = await channel.declare_queue("bench", durable=True)
        await queue.bind(await channel.declare_exchange("bench", "topic", durable=True), KEY)
        unsure = await (await connection.channel(publisher_confirms=False)).get_exchange("bench")
        notifier = Notifier(broker, exchange, 30)

        async def one() -> None:
            await notifier.publish(str(uuid4()), KEY, BODY)

        async def at_once() -> None:
            for _ in range(EVENTS // WINDOW):
                await asyncio.gather(*(one() for _ in range(WINDOW)))

        async def in_turn() -> None:
            for _ in range(EVENTS):
                await one()

        async def unconfirmed() -> None:
            for _ in range(EVENTS):
                message = aio_pika.Message(json.dumps(BODY).encode(), delivery_mode=2, message_id=str(uuid4()))
                await unsure.publish(message, KEY)

        ours, rival, limit = [await least(work, 3) for work in (at_once, in_turn, unconfirmed)]
    return Row(f"{EVENTS:,} confirmed events, {WINDOW} at once", ours, rival, limit, "at most 1/3, and 2 x")


async def measured() -> list[Row]:
    """Every row."""
    async with servers() as services:
        await migrate(services.environment() | {"DATABASE_SCHEMA": SCHEMA})
        engine = create_engine(services.database_url, SCHEMA, 1, 60)
        found = [await changed_rows(engine), await updates_in_place(engine)]
        await engine.dispose()
        return [*found, await confirmed_events(services.rabbitmq_url)]
