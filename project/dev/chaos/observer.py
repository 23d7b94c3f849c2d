"""Records everything that happens in the fault suite: the notificator's queue, the external services, the tables."""

import asyncio
import json
import logging
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aio_pika
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dev.chaos import records
from dev.chaos.history import History, Ran, Received
from dev.chaos.settings import HTTP_TIMEOUT, LEAD, LONGEST_RUN
from dev.chaos.workload import ALWAYS_USED, Workload
from limiter.clients.rabbitmq import connect
from limiter.db import tables
from limiter.db.engine import create_engine
from limiter.domain.job import Job

ASK_REGISTRY = (Job.RPS_CHECK, Job.IDLE_WARNING, Job.IDLE_ENFORCE)


class Observer:
    """Receives the events as the notificator does, and reads the tables past pgbouncer."""

    def __init__(self, workload: Workload, variables: dict[str, str], database: str) -> None:
        self._workload = workload
        self._url = variables["RABBITMQ_URL"]
        self._engine = create_engine(database, variables["DATABASE_SCHEMA"], 1, 10)
        self._events: dict[str, Received] = {}  # by message id
        self._deliveries = 0
        self._runs: list[Ran] = []

    async def __aenter__(self) -> "Observer":
        # The broker being away is a fault of the suite, so its log lines say nothing new.
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.cancel()
        with suppress(asyncio.CancelledError):
            await self._listener
        await self._engine.dispose()

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
        event = records.received(time.time(), str(message.message_id), json.loads(message.body))
        first = self._events.setdefault(event.message_id, event)
        if first is event:
            self._workload.read(event)
        else:
            self._events[event.message_id] = replace(first, again=(*first.again, (event.at, event.not_before)))

    async def history(self) -> History:
        """Everything recorded so far."""
        self._runs = [_ran(row) for row in await self._rows(tables.job_run)]
        published = [row for row in await self._rows(tables.outbox) if row.published_at is not None]
        # A broker that dies right after it confirmed delivers late; an event counts from its confirmation too.
        confirmed = {str(row.message_id): row.published_at.timestamp() for row in published}
        workload, platform = self._workload, self._workload.platform
        return History(
            lead=LEAD,
            min_replicas=1,
            max_replicas=8,
            events=tuple(_confirmed(event, confirmed.get(event.message_id)) for event in self._events.values()),
            deletions=records.deletions(platform),
            attempts=records.attempts(platform, workload.bookings),
            given_back=tuple(workload.given_back),
            booked_on=tuple(workload.booked_on),
            reads=records.reads(platform),
            keeps=tuple(workload.keeps),
            pauses=tuple(workload.pauses),
            lost=tuple(workload.lost),
            commands=records.commands(platform),
            runs=tuple(self._runs),
            published=records.published(published),
            always_used=ALWAYS_USED,
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
            *(f"{name}, which nobody uses, still runs" for name in self._workload.unused()),
        ]

    async def stuck_run(self) -> Ran:
        """Wait for a run that takes long because the registry does not answer; raises TimeoutError."""
        long = select(tables.job_run).where(
            tables.job_run.c.state == "running",
            tables.job_run.c.job.in_(ASK_REGISTRY),
            tables.job_run.c.started_at < func.now() - timedelta(seconds=0.3),
        )
        return await self._first(long)

    async def still_waits(self, run: Ran) -> bool:
        """Whether the run has not ended, and its call is not about to be given up."""
        one = (tables.job_run.c.job == run.job) & (tables.job_run.c.epoch == run.epoch)
        early = tables.job_run.c.started_at > func.now() - timedelta(seconds=0.8 * HTTP_TIMEOUT)
        waits = select(tables.job_run.c.epoch).where(one, early, tables.job_run.c.state == "running")
        async with self._engine.connect() as connection:
            return await connection.scalar(waits) is not None

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

    def figures(self, history: History) -> Counter[str]:
        """What happened, counted; a takeover is a run that follows a lost one of its job."""
        runs = sorted(history.runs, key=lambda run: (run.job, run.epoch))
        taken_over = [after for before, after in pairwise(runs) if before.job == after.job and before.state == "lost"]
        return Counter(
            {
                "commands": len(history.commands),
                "uninstalls": sum(command.replicas is None for command in history.commands),
                "deletions": len(history.deletions),
                "refusals": sum(attempt.refused for attempt in history.attempts),
                "events": len(history.events),
                "deliveries": self._deliveries,
                "keeps": len(history.keeps),
                "pauses": len(history.pauses),
                "slots given back": len(history.given_back),
                "slots booked on": len(history.booked_on),
                "booked between a GET and its DELETE": sum(map(history.came_between, history.deletions)),
                "runs": len(runs),
                "runs lost": sum(run.state == "lost" for run in runs),
                "takeovers": len(taken_over),
            }
        )


def _confirmed(event: Received, at: float | None) -> Received:
    """The event, delivered when it was confirmed too."""
    if at is None or at >= event.at:
        return event if at is None else replace(event, again=(*event.again, (at, event.promised(at))))
    return replace(event, at=at, again=(*event.again, (event.at, event.not_before)))


def _ran(row: Any) -> Ran:
    def unix(moment: datetime | None) -> float | None:
        return moment.timestamp() if moment else None

    ended = None if row.state in ("lost", "running") else unix(row.ended_at)
    return Ran(row.job, row.epoch, row.due_slot.timestamp(), row.cause, row.state, row.started_at.timestamp(), ended)
