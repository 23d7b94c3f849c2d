"""A composed replica whose jobs a test runs one by one, and the notifier's end of the wire."""

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractQueue
from sqlalchemy import Engine, Table, exists, select
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.fake_platform.platform import Platform
from dev.servers.services import Services
from limiter.config.loading import load
from limiter.config.settings import Settings
from limiter.db import ledger, outbox, tables
from limiter.db.engine import closed_at_the_end, create_engine
from limiter.domain.idle_spell import OPEN_STATES
from limiter.domain.job import Job
from limiter.runner.claim import RunReport
from limiter.runner.scheduler import JobScheduler
from limiter.telemetry import Telemetry
from limiter.wiring import Replica, compose, stores
from tests.contracts import check_event

# Short enough for tests that wait in real time; the timelines set the policy's own durations.
QUICK = {
    "HTTP_TIMEOUT_SECONDS": 3,
    "HTTP_ATTEMPTS": 2,
    "HTTP_RETRY_FIRST_SECONDS": 0.01,
    "HTTP_CIRCUIT_REST_SECONDS": 0.05,
    "EVENT_RETRY_FIRST_SECONDS": 0.05,
    "EVENT_RETRY_LONGEST_SECONDS": 0.2,
    "USER_EMAIL_TEMPLATE": "{user_name}@example.org",
    "CLOCK_SKEW_LIMIT_SECONDS": 0,
    "DATABASE_TIMEOUT_SECONDS": 5,
    "RABBITMQ_RECONNECT_SECONDS": 0.2,
    "CONTROL_WAIT_SECONDS": 0.5,
    "HEALTH_TIMEOUT_SECONDS": 5,  # else the numbers of a page asked for on a busy machine may be NaN
}


def environment(services: Services, schema: str, platform: Platform, **more: object) -> dict[str, str]:
    """The environment of a replica; names of queues and exchange are unique, so that tests do not meet in RabbitMQ."""
    unique = uuid4().hex[:8]
    names = {
        "DATABASE_SCHEMA": schema,
        "NOTIFIER_EXCHANGE": f"notifications.{unique}",
        "CONTROL_QUEUE": f"control.{unique}",
        "DEPLOYED_QUEUE": f"deployed.{unique}",
    }
    values = services.environment() | platform.environment() | names | QUICK | more
    return {name: str(value) for name, value in values.items()}


def settings_of(variables: dict[str, str]) -> Settings:
    with patch.dict(os.environ, variables, clear=True):
        return load()


@dataclass
class Bench:
    """One composed replica; nothing runs unless the test runs it."""

    settings: Settings
    platform: Platform
    replica: Replica
    inbox: AbstractQueue
    channel: AbstractChannel

    @property
    def scheduler(self) -> JobScheduler:
        return self.replica.scheduler

    @property
    def telemetry(self) -> Telemetry:
        return self.replica.telemetry

    @property
    def engine(self) -> AsyncEngine:
        return self.replica.engine

    async def run(self, *jobs: Job) -> RunReport:
        """Run these jobs one after the other, as a manual run does; each must complete."""
        for job in jobs:
            report = await self.attempt(job)
            assert report.state == "completed", report
        return report

    async def attempt(self, job: Job) -> RunReport:
        report = await self.scheduler.run_manually(job, 1)
        assert report is not None, f"the lock of {job} was not free"
        return report

    async def has_work(self, job: Job) -> bool:
        """Whether a run can have an effect: three need a spell, an event to send, or a command to follow.

        An event that was refused is sent again after a pause of real time, which is waited for.
        """
        if job in (Job.RPS_CHECK, Job.IDLE_WARNING):
            return True
        autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")  # half of the round trips
        async with autocommit.connect() as connection, asyncio.timeout(10):
            if job is Job.IDLE_ENFORCE:
                return bool(await connection.scalar(select(exists().where(tables.idle_spell.c.state.in_(OPEN_STATES)))))
            if job is Job.SAGA_POLL:
                return bool(await ledger.unfinished(connection))
            unsent = select(exists().where(tables.outbox.c.published_at.is_(None)))
            while await connection.scalar(unsent):
                if await connection.scalar(select(outbox.has_work())):
                    return True
                await asyncio.sleep(0.01)
            return False

    async def rows(self, table: Table) -> list[Any]:
        """All rows, the oldest first where the table tells: Postgres fills gaps that a vacuum has made meanwhile."""
        times = ("planned_at", "opened_at", "started_at")
        by_age = [column for column in table.c if column.identity or column.name in times]
        async with self.engine.connect() as connection:
            return list(await connection.execute(select(table).order_by(*by_age)))

    async def until(self, table: Table, condition: Callable[[list[Any]], bool]) -> None:
        """Wait until the rows of a table are as wished."""
        async with asyncio.timeout(10):
            while True:
                if condition(await self.rows(table)):
                    return
                await asyncio.sleep(0.05)

    async def events(self) -> list[dict[str, Any]]:
        """What the notifier would have read since it was last asked."""
        found = []
        while (message := await self.inbox.get(fail=False)) is not None:
            await message.ack()
            body = json.loads(message.body)
            check_event(body)
            found.append(body | {"message_id": message.message_id})
        return found

    async def stages(self) -> list[str]:
        return [event["reservation"]["stage"] for event in await self.events()]

    def count(self, metric: str, **labels: str) -> float:
        """The value of one of our counters; 0 if it was never counted."""
        return self.telemetry.registry.get_sample_value(f"rps_limiter_{metric}", labels) or 0.0

    def criticals(self) -> dict[str, float]:
        """Critical errors by reason."""
        samples = [sample for family in self.telemetry.registry.collect() for sample in family.samples]
        name = "rps_limiter_critical_errors_total"
        return {sample.labels["reason"]: sample.value for sample in samples if sample.name == name and sample.value}


# Engines of benches that have ended, and what each was made of. A new engine would compile every statement anew, which
# took a twelfth of the tests' time; connections are always new.
_made: dict[Engine, tuple[object, ...]] = {}
_spare: defaultdict[tuple[object, ...], list[AsyncEngine]] = defaultdict(list)


def _engine(*made_of: Any) -> AsyncEngine:
    engine = _spare[made_of].pop() if _spare[made_of] else create_engine(*made_of)
    _made[engine.sync_engine] = made_of
    return engine


@asynccontextmanager
async def _closed_and_kept(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    async with closed_at_the_end(engine):
        yield engine
    _spare[_made[engine.sync_engine]].append(engine)


@asynccontextmanager
async def composed(settings: Settings) -> AsyncIterator[Replica]:
    """The replica of these settings; traced, its engines are its own, or they would be traced from then on."""
    ours = {} if settings.traces_url else {"create_engine": _engine, "closed_at_the_end": _closed_and_kept}
    with patch.dict(vars(stores), ours):
        async with compose(settings) as replica:
            yield replica


@asynccontextmanager
async def open_bench(services: Services, schema: str, platform: Platform, **more: object) -> AsyncIterator[Bench]:
    settings = settings_of(environment(services, schema, platform, **more))
    connection = await aio_pika.connect(settings.rabbitmq_url.get_secret_value())
    async with connection, composed(settings) as replica:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(settings.notifier_exchange, "topic", durable=True)
        inbox = await channel.declare_queue(f"notifier.{uuid4().hex[:8]}", exclusive=True)
        await inbox.bind(exchange, settings.notifier_no_use_routing_key)
        await replica.table.register()
        await replica.consumer.start()
        try:
            yield Bench(settings, platform, replica, inbox, channel)
        finally:
            await replica.consumer.broker.stop()
