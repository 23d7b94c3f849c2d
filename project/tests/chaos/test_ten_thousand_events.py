"""Ten thousand events reach the notificator although RabbitMQ is killed twice in the middle."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from sqlalchemy import func, insert, select

from dev.servers.services import Services
from limiter.clients.rabbitmq import connect
from limiter.db.tables import outbox
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import MakeBench

SPELLS, STEPS = 2600, 4
TOTAL = SPELLS * STEPS
KEY, LATE_KEY = "reservation.no_use", "reservation.late"  # a queue is bound to the second only towards the end
LATE = 50  # the first event of every 50th spell has the late key, and must keep the others of its spell waiting
PREFETCH = 200
PATIENCE = 300  # seconds for all of it; two free cores need 30, most of them for the three starts of RabbitMQ


@dataclass
class Notificator:
    """Consumes a durable queue, and connects again whenever it is cut off."""

    url: str
    exchange: str
    queue: str
    deliveries: list[tuple[UUID, int, int]] = field(default_factory=list)  # message, spell, step: duplicates too
    connections: int = 0

    async def listen(self) -> None:
        while True:
            with suppress(*CONNECTION_EXCEPTIONS):
                await self._consume()
            await asyncio.sleep(0.1)

    async def _consume(self) -> None:
        async with await connect(self.url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.get_queue(self.queue)
            self.connections += 1
            async with queue.iterator() as messages:
                async for message in messages:
                    body = json.loads(message.body)
                    self.deliveries.append((UUID(message.message_id), body["spell"], body["step"]))
                    await message.ack()

    async def bind_late(self) -> None:
        async with await aio_pika.connect(self.url) as connection:
            queue = await (await connection.channel()).get_queue(self.queue)
            await queue.bind(self.exchange, LATE_KEY)

    async def heard(self) -> int:
        return len(self.first_arrivals())

    def first_arrivals(self) -> dict[UUID, tuple[int, int]]:
        """Spell and step of each message, in the order in which the messages came first."""
        found: dict[UUID, tuple[int, int]] = {}
        for message, spell, step in self.deliveries:
            found.setdefault(message, (spell, step))
        return found


async def queue_on_disk(services: Services, exchange: str) -> Notificator:
    """A notificator that does not listen yet; its queue outlives a kill, as RabbitMQ was shut down cleanly since."""
    async with await aio_pika.connect(services.rabbitmq_url) as connection:
        channel = await connection.channel()
        topic = await channel.declare_exchange(exchange, "topic", durable=True)
        queue = await channel.declare_queue(f"notificator.{exchange}", durable=True)
        await queue.bind(topic, KEY)
    await asyncio.to_thread(services.rabbitmq.stop, "fast")
    await asyncio.to_thread(services.rabbitmq.start)
    return Notificator(services.rabbitmq_url, exchange, queue.name)


async def fill(bench: Bench) -> set[UUID]:
    """Put all events into the outbox, as `outbox.put` does, each spell's one after the other; their ids."""
    rows: list[dict[str, Any]] = []
    for spell in range(SPELLS):
        spell_id = uuid4()
        for step in range(STEPS):
            body = {"spell": spell, "step": step}
            key = LATE_KEY if step == 0 and spell % LATE == 0 else KEY
            event = {"message_id": uuid4(), "spell_id": spell_id, "stage": f"step {step}", "routing_key": key}
            rows.append(event | {"body": body})
    async with bench.engine.begin() as connection:
        await connection.execute(insert(outbox), rows)
    return {row["message_id"] for row in rows}


async def published(bench: Bench) -> int:
    async with bench.engine.connect() as connection:
        return await connection.scalar(select(func.count(outbox.c.published_at))) or 0


async def dispatch(bench: Bench) -> None:
    """Run the job again and again until nothing is left to send."""
    while await published(bench) < TOTAL:
        await bench.run(Job.EVENT_DISPATCH)
        await asyncio.sleep(0.05)


async def unconfirmed(bench: Bench) -> int:
    """How often the job met a broker that did not confirm."""
    return int(bench.criticals().get("event_unconfirmed", 0))


async def reaches(wanted: int, count: Callable[[], Awaitable[int]]) -> None:
    while True:
        if await count() >= wanted:
            return
        await asyncio.sleep(0.02)


async def kill_when(services: Services, bench: Bench, sent: int) -> int:
    """Kill RabbitMQ once so many events are published, and start it again; how many were when it was dead."""
    await reaches(sent, partial(published, bench))
    before = await unconfirmed(bench)
    await asyncio.to_thread(services.rabbitmq.kill)
    then = await published(bench)
    await reaches(before + 1, partial(unconfirmed, bench))
    await asyncio.to_thread(services.rabbitmq.start)
    return then


@pytest.mark.waits(25)
async def test_each_of_ten_thousand_events_arrives_in_order_although_rabbitmq_is_killed_twice(
    services: Services, make_bench: MakeBench
) -> None:
    bench = await make_bench()
    try:
        async with asyncio.timeout(PATIENCE):
            notificator = await queue_on_disk(services, bench.settings.notifier_exchange)
            sent = await fill(bench)
            async with asyncio.TaskGroup() as group:
                dispatching = group.create_task(dispatch(bench))
                first = await kill_when(services, bench, TOTAL // 5)  # all of them wait in the queue
                listening = group.create_task(notificator.listen())
                second = await kill_when(services, bench, TOTAL * 3 // 5)  # some are being read
                await notificator.bind_late()
                await dispatching
                await reaches(TOTAL, notificator.heard)
                listening.cancel()
    finally:
        await asyncio.to_thread(services.rabbitmq.start)
    assert 0 < first < second < TOTAL
    arrived, received = notificator.first_arrivals(), len(notificator.deliveries)
    print(f"killed at {first} and {second} of {TOTAL}; {received} received, {received - TOTAL} of them duplicates")
    assert arrived.keys() == sent
    assert received - TOTAL <= 2 * (bench.settings.event_window + PREFETCH)  # what was in flight at the two kills
    assert notificator.connections >= 2
    steps_of: dict[int, list[int]] = {}
    for spell, step in arrived.values():
        steps_of.setdefault(spell, []).append(step)
    assert {tuple(steps) for steps in steps_of.values()} == {tuple(range(STEPS))}
