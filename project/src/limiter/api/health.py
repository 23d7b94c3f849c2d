"""What a replica knows of itself and of what it needs, for health and metrics."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from faststream.rabbit import RabbitBroker
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from limiter.api.queues import Queues, dead_letters
from limiter.api.reads import Reads
from limiter.api.status import StatusReader
from limiter.clients.rabbitmq import BLOCKED, answered, is_blocked
from limiter.db.engine import DATABASE_ERRORS, MISTAKES, READ_ONLY, describe
from limiter.db.tables import job
from limiter.domain.fleet_numbers import FleetNumbers
from limiter.logs import log_problem
from limiter.runner.scheduler import JobScheduler
from limiter.telemetry import Telemetry

OK, SILENT = "ok", "unavailable: no answer in time"
NOT_CONNECTED = "unavailable: not connected"
FULL_SECONDS = 30.0  # for which a write without room shows: reads go on, and small writes may still find some


@dataclass(frozen=True)
class Health:
    """What this replica knows of itself and of what it needs.

    `patience` is the seconds that a probe or a scrape waits, `page_patience` those that a person does.
    """

    engine: AsyncEngine
    broker: RabbitBroker
    queues: Queues
    scheduler: JobScheduler
    telemetry: Telemetry
    liveness_timeout: float
    patience: float
    page_patience: float
    status_reader: StatusReader
    reads: Reads = field(default_factory=Reads)
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    warnings: tuple[str, ...] = ()  # settings that are allowed but hardly meant
    log: Callable[[], str | None] = log_problem

    def alive(self) -> str:
        """OK, or why this process should be restarted; before the scheduler starts it waits for the database."""
        silent = self.scheduler.silent_for()
        if silent is not None and silent > self.liveness_timeout and not self.scheduler.draining:
            return f"no heartbeat for {silent:.0f} s"
        return OK

    async def dependencies(self) -> dict[str, str]:
        """Each dependency by name, OK or what is wrong with it; waited for no longer than `patience`."""
        database, rabbitmq = await asyncio.gather(
            self.reads.of("database", self._database, self.patience, SILENT),
            self.reads.of("rabbitmq", self._rabbitmq, self.patience, SILENT),
        )
        return {
            "database": database,
            "rabbitmq": rabbitmq,
            "scheduler": self._scheduler(),
            "clock": "off the database's clock" if self.scheduler.skewed else OK,
        }

    async def _database(self) -> str:
        # Of a table of ours: a database without them, or one that only reads, answers all else.
        query = select(func.current_setting("transaction_read_only")).select_from(job).limit(1)
        try:
            async with self.engine.connect() as connection:
                if await connection.scalar(query) == "on":
                    await connection.invalidate()  # by now the same name may lead to the new primary
                    return READ_ONLY
        except MISTAKES as error:
            return f"unusable: {describe(error)}"
        except DATABASE_ERRORS as error:
            return f"unavailable: {describe(error)}"
        full = self.telemetry.last_critical("database_full", FULL_SECONDS)
        return f"no room on its disk: {full}" if full else OK

    async def _rabbitmq(self) -> str:
        if not await self.broker.ping(self.patience):
            return NOT_CONNECTED
        if await is_blocked(self.broker):
            return BLOCKED
        return OK if await answered(self.broker) else NOT_CONNECTED

    def _scheduler(self) -> str:
        if self.scheduler.draining:
            return "draining"
        return "not started" if self.scheduler.silent_for() is None else self.alive()

    async def show(self) -> None:
        """Set the gauges: what Postgres tells of the fleet, so that every replica tells the same, and our own state."""
        letters = partial(dead_letters, self.broker, self.queues)
        found, dead, dependencies = await asyncio.gather(
            self.reads.of("numbers", self._numbers, self.patience, None),
            self.reads.of("dead letters", letters, self.patience, None),
            self.dependencies(),
        )
        self.telemetry.fleet.show_dead_letters(dead, self.queues.names)
        if found is None:
            self.telemetry.fleet.hide()
        else:
            self.telemetry.fleet.show(found, time.time())
        ready = all(state == OK for state in dependencies.values())
        self.telemetry.replica.show_ready(ready, cast(QueuePool, self.engine.pool).checkedout())

    async def status(self, page: int) -> dict[str, Any] | None:
        """What stands now; None if Postgres does not tell in time."""
        return await self.reads.of(f"status {page}", partial(self._status, page), self.page_patience, None)

    async def _status(self, page: int) -> dict[str, Any] | None:
        try:
            async with self.one_at_a_time:  # however many watch the page, the jobs keep their connections
                return await self.status_reader.read(page)
        except DATABASE_ERRORS:
            return None

    async def _numbers(self) -> FleetNumbers | None:
        try:
            return await self.status_reader.numbers()
        except DATABASE_ERRORS:
            return None
