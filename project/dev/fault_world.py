"""The world of the fault suite: users who book and forget, traffic that comes and goes, and a record of everything."""

import asyncio
import json
import random
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import aio_pika
from sqlalchemy import select

from dev.history import Asked, Deleted, Heard, History, Ran, Told
from dev.platform import Platform
from limiter.db import tables
from limiter.db.engine import create_engine

LIMIT, LEAD = 14, 6  # seconds
INTERVAL = 1.0  # seconds between two runs of each job
SAGA_SECONDS = 1.0
SETTINGS = {
    "RPS_CHECK_INTERVAL_SECONDS": INTERVAL,
    "IDLE_WARNING_INTERVAL_SECONDS": INTERVAL,
    "IDLE_ENFORCE_INTERVAL_SECONDS": INTERVAL,
    "SAGA_POLL_INTERVAL_SECONDS": INTERVAL,
    "EVENT_DISPATCH_INTERVAL_SECONDS": 0.5,
    "SCALE_UP_WINDOW_SECONDS": 4,
    "SCALE_DOWN_WINDOW_SECONDS": 6,
    "SCALE_UP_STABILIZATION_SECONDS": 1,
    "SCALE_DOWN_STABILIZATION_SECONDS": 3,
    "SCALE_COOLDOWN_SECONDS": 1,
    "COMMAND_BACKOFF_FIRST_SECONDS": 1,
    "COMMAND_BACKOFF_LONGEST_SECONDS": 4,
    "SAGA_TIMEOUT_SECONDS": 8,
    "IDLE_LIMIT_SECONDS": LIMIT,
    "IDLE_WARNING_LEAD_SECONDS": LEAD,
    "UNBOOKING_ROW_GAP_SECONDS": 5,
    "UNINSTALL_ON_IDLE": "true",
    "UNINSTALL_GUARD_SECONDS": 60,
    "USER_EMAIL_TEMPLATE": "{user_name}@example.org",
    "LOCK_HEARTBEAT_SECONDS": 0.5,
    "LOCK_TRUST_SECONDS": 2,
    "LOCK_IDLE_TIMEOUT_SECONDS": 4,
    "HTTP_TIMEOUT_SECONDS": 1,
    "HTTP_CIRCUIT_REST_SECONDS": 1,
    "EVENT_RETRY_FIRST_SECONDS": 0.2,
    "EVENT_RETRY_LONGEST_SECONDS": 1,
    "DATABASE_TIMEOUT_SECONDS": 2,
    "RABBITMQ_TIMEOUT_SECONDS": 2,
}


class World:
    """Invents users and traffic, and hears what the users are told."""

    def __init__(self, platform: Platform, variables: dict[str, str], database: str) -> None:
        self._platform = platform
        self._url = variables["RABBITMQ_URL"]
        self._engine = create_engine(database, variables["DATABASE_SCHEMA"], 1, 10)
        self._heard: dict[str, Heard] = {}
        self._received = 0
        self._runs: list[Ran] = []
        self._forgotten = 0

    async def __aenter__(self) -> "World":
        for name, rate in (("steady", 5.0), ("busy", 36.0)):
            self._platform.add_model(name)
            self._platform.call(name)
            self._platform.set_rate(name, rate)
            self._book(name)
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener
        await self._engine.dispose()

    def live(self, dice: random.Random) -> None:
        """What users do between two faults: somebody books and forgets, traffic changes, somebody comes back."""
        self._forgotten += 1
        name = f"forgotten-{self._forgotten}"
        self._platform.add_model(name)
        self._platform.call(name)
        self._book(name)
        self._platform.set_rate("busy", dice.choice((1.0, 12.0, 36.0)))
        if dice.random() < 0.3:
            self._platform.call(f"forgotten-{dice.randint(1, self._forgotten)}")

    def _book(self, name: str) -> None:
        now, user = int(time.time()), str(uuid4())
        slots = [(now - 1, now + 600), (now + 600, now + 1200), (now + 1202, now + 1800), (now + 9000, now + 9600)]
        self._platform.add_reservation(user, f"user-of-{name}", name, slots=slots)

    async def _listen(self) -> None:
        """The notificator: a durable queue, read again and again however often the broker dies."""
        while True:
            with suppress(aio_pika.exceptions.AMQPError, OSError, RuntimeError):
                async with await aio_pika.connect(self._url, timeout=2) as connection:
                    await self._consume(await connection.channel())
            await asyncio.sleep(0.2)

    async def _consume(self, channel: aio_pika.abc.AbstractChannel) -> None:
        exchange = await channel.declare_exchange("notifications", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("notificator", durable=True)
        await queue.bind(exchange, "reservation.no_use")
        async with queue.iterator() as messages:
            async for message in messages:
                self._hear(message)
                await message.ack()

    def _hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self._received += 1
        event: dict[str, Any] = json.loads(message.body)
        told = event["reservation"]
        heard = Heard(
            at=time.time(),
            message_id=str(message.message_id),
            user=event["user"]["id"],
            model=told["model_name"],
            stage=told["stage"],
            spell=(told["id"], told["idle_since"]),
            cancelled=tuple(slot["slot_id"] for slot in told["cancelled_slots"]),
        )
        self._heard.setdefault(heard.message_id, heard)

    async def history(self) -> History:
        """Everything recorded so far."""
        self._runs = [_ran(row) for row in await self._rows(tables.job_run)]
        published = [row for row in await self._rows(tables.outbox) if row.published_at is not None]
        # A broker that dies right after confirming delivers late; the promise counts from the confirmation.
        confirmed = {str(row.message_id): row.published_at.timestamp() for row in published}
        events = list(self._heard.values())
        return History(
            lead=LEAD,
            min_replicas=1,
            max_replicas=8,
            events=tuple(
                replace(heard, at=min(heard.at, confirmed.get(heard.message_id, heard.at))) for heard in events
            ),
            deletions=tuple(
                Deleted(gone.at, gone.user.id, gone.model_name, slot.id)
                for gone in self._platform.deletions
                for slot in gone.slots
            ),
            commands=tuple(
                Asked(sent.at, sent.model_name, sent.replicas, sent.at + SAGA_SECONDS)
                for sent in self._platform.commands
            ),
            runs=tuple(self._runs),
            published=tuple(Told(str(row.message_id)) for row in published),
            always_used=frozenset({"steady"}),
        )

    async def _rows(self, table: Any) -> list[Any]:
        async with self._engine.connect() as connection:
            return list(await connection.execute(select(table)))

    async def restless(self) -> list[str]:
        """What has not come to rest after the quiet time: events unsent, commands unfinished."""
        waiting = [row for row in await self._rows(tables.outbox) if row.published_at is None]
        return [f"event {row.message_id} ({row.stage}) is still unsent: {row.error}" for row in waiting]

    def figures(self, killed_at: list[float], frozen: list[tuple[float, float]]) -> str:
        """Counts, and how long the jobs stood still after a kill and after a freeze."""
        lost = sum(run.state == "lost" for run in self._runs)
        takeovers = sum(run.cause == "orphan" for run in self._runs)
        after_kill = max((self._pause(at) for at in killed_at), default=0.0)
        after_freeze = max((self._pause(since) for since, _ in frozen), default=0.0)
        return (
            f"{len(self._platform.commands)} commands, {len(self._platform.deletions)} deletions, "
            f"{len(self._heard)} events ({self._received} received), {len(self._runs)} runs "
            f"({lost} lost, {takeovers} taken over); longest pause of a job after kill -9 {after_kill:.1f} s, "
            f"after a freeze {after_freeze:.1f} s"
        )

    def _pause(self, at: float) -> float:
        """From `at`, how long until each scheduled job had begun a run; the slowest job's time in seconds."""
        jobs = {run.job for run in self._runs if run.job != "event_dispatch"}
        begins = (
            min((run.at - at for run in self._runs if run.job == job and run.at > at), default=0.0) for job in jobs
        )
        return max(begins, default=0.0)


def _ran(row: Any) -> Ran:
    def unix(moment: datetime | None) -> float | None:
        return moment.timestamp() if moment else None

    ended = None if row.state in ("lost", "running") else unix(row.ended_at)
    return Ran(row.job, row.epoch, row.slot.timestamp(), row.cause, row.state, row.started_at.timestamp(), ended)
