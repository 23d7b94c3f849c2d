"""The workload of the fault suite: users who book and forget, traffic that comes and goes, and a record of everything.

The policy's durations are shortened; those of the locks are the defaults, so that the times measured are those of a
deployment.
"""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import aio_pika
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dev.chaos.checker import Asked, Deleted, History, Published, Ran, Received
from dev.fake_platform.platform import Platform
from limiter.clients.rabbitmq import connect
from limiter.db import tables
from limiter.db.engine import create_engine

LIMIT, LEAD = 14, 6  # seconds
INTERVAL = 1.0  # seconds between two runs of each job
SAGA_SECONDS = 1.0
LONGEST_RUN = 12.0  # seconds that a run may take while nothing is broken
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
    "HTTP_TIMEOUT_SECONDS": 1,
    "HTTP_CIRCUIT_REST_SECONDS": 1,
    "EVENT_RETRY_FIRST_SECONDS": 0.2,
    "EVENT_RETRY_LONGEST_SECONDS": 1,
    "DATABASE_TIMEOUT_SECONDS": 2,
    "RABBITMQ_TIMEOUT_SECONDS": 2,
    "LOG_LEVEL": "DEBUG",
}


class Workload:
    """Generates users and traffic, and records the events that the notificator receives."""

    def __init__(self, platform: Platform, variables: dict[str, str], database: str) -> None:
        self._platform = platform
        self._url = variables["RABBITMQ_URL"]
        self._engine = create_engine(database, variables["DATABASE_SCHEMA"], 1, 10)
        self._events: dict[str, Received] = {}  # by message id
        self._deliveries = 0
        self._runs: list[Ran] = []
        self._forgotten = 0

    async def __aenter__(self) -> "Workload":
        for name, rate in (("steady", 5.0), ("busy", 36.0)):
            self._platform.add_model(name)
            self._platform.call(name)
            self._platform.set_rate(name, rate)
            self._book(name)
        # The broker being away is a fault of the suite, so its log lines say nothing new.
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener
        await self._engine.dispose()

    def live(self, dice: random.Random) -> None:
        """What users do between two faults: one books and forgets, traffic changes, another may come back."""
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
        """The notificator: reads its durable queue, and connects again whenever the broker dies."""
        while True:
            with suppress(aio_pika.exceptions.AMQPError, OSError, RuntimeError):
                async with await connect(self._url, timeout=2) as connection:
                    await self._consume(await connection.channel())
            await asyncio.sleep(0.2)

    async def _consume(self, channel: aio_pika.abc.AbstractChannel) -> None:
        exchange = await channel.declare_exchange("notifications", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("notificator", durable=True)
        await queue.bind(exchange, "reservation.no_use")
        async with queue.iterator() as messages:
            async for message in messages:
                self._record(message)
                await message.ack()

    def _record(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self._deliveries += 1
        body: dict[str, Any] = json.loads(message.body)
        reservation = body["reservation"]
        event = Received(
            at=time.time(),
            message_id=str(message.message_id),
            user=body["user"]["id"],
            model=reservation["model_name"],
            stage=reservation["stage"],
            spell=(reservation["id"], reservation["idle_since"]),
            cancelled=tuple(slot["slot_id"] for slot in reservation["cancelled_slots"]),
        )
        self._events.setdefault(event.message_id, event)

    async def history(self) -> History:
        """Everything recorded so far."""
        self._runs = [_ran(row) for row in await self._rows(tables.job_run)]
        published = [row for row in await self._rows(tables.outbox) if row.published_at is not None]
        # A broker that dies right after it confirmed delivers late; an event counts from its confirmation.
        confirmed = {str(row.message_id): row.published_at.timestamp() for row in published}
        return History(
            lead=LEAD,
            min_replicas=1,
            max_replicas=8,
            events=tuple(
                replace(event, at=min(event.at, confirmed.get(event.message_id, event.at)))
                for event in self._events.values()
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
            published=tuple(Published(str(row.message_id)) for row in published),
            always_used=frozenset({"steady"}),
        )

    def database(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection to Postgres that bypasses pgbouncer."""
        return self._engine.connect()

    async def _rows(self, table: Any) -> list[Any]:
        async with self._engine.connect() as connection:
            return list(await connection.execute(select(table)))

    async def unsettled(self) -> list[str]:
        """What is not settled: events unsent, commands unfinished, spells open, runs that have not ended."""
        long_ago = datetime.now(UTC) - timedelta(seconds=LONGEST_RUN)
        events = [row for row in await self._rows(tables.outbox) if row.published_at is None]
        commands = [row for row in await self._rows(tables.command) if row.finished_at is None]
        spells = [row for row in await self._rows(tables.idle_spell) if row.closed_at is None]
        runs = [row for row in await self._rows(tables.job_run) if row.ended_at is None]
        return [
            *(f"event {row.message_id} ({row.stage}) is still unsent: {row.error}" for row in events),
            *(f"{row.kind} of {row.model_name} is still {row.state}" for row in commands),
            *(f"the spell of {row.user_name} is still {row.state}" for row in spells),
            *(f"run {row.epoch} of {row.job} has not ended" for row in runs if row.started_at < long_ago),
        ]

    async def stuck_run(self) -> Ran:
        """Wait for a run that takes long because an external service does not answer; raises TimeoutError."""
        long = select(tables.job_run).where(
            tables.job_run.c.state == "running", tables.job_run.c.started_at < func.now() - timedelta(seconds=0.3)
        )
        return await self._first(long)

    async def run_after(self, before: Ran) -> Ran:
        """Wait for the next run of the same job; raises TimeoutError."""
        later = (tables.job_run.c.job == before.job) & (tables.job_run.c.epoch > before.epoch)
        try:
            return await self._first(select(tables.job_run).where(later).order_by(tables.job_run.c.epoch))
        except TimeoutError:
            raise TimeoutError(f"no run of {before.job} followed {before.epoch}") from None

    async def _first(self, query: Select[Any]) -> Ran:
        async with asyncio.timeout(60):
            while True:
                async with self._engine.connect() as connection:
                    row = (await connection.execute(query)).first()
                if row is not None:
                    return _ran(row)
                await asyncio.sleep(0.02)

    def figures(self) -> Counter[str]:
        """What happened, counted; a takeover is a run that follows a lost one of its job."""
        runs = sorted(self._runs, key=lambda run: (run.job, run.epoch))
        taken_over = [after for before, after in pairwise(runs) if before.job == after.job and before.state == "lost"]
        return Counter(
            {
                "commands": len(self._platform.commands),
                "deletions": len(self._platform.deletions),
                "events": len(self._events),
                "deliveries": self._deliveries,
                "runs": len(runs),
                "runs lost": sum(run.state == "lost" for run in runs),
                "takeovers": len(taken_over),
            }
        )


def _ran(row: Any) -> Ran:
    def unix(moment: datetime | None) -> float | None:
        return moment.timestamp() if moment else None

    ended = None if row.state in ("lost", "running") else unix(row.ended_at)
    return Ran(row.job, row.epoch, row.due_slot.timestamp(), row.cause, row.state, row.started_at.timestamp(), ended)
