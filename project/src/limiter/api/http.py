"""Health and metrics over HTTP."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from faststream.rabbit import RabbitBroker
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from limiter.api.broker import dead_letters
from limiter.api.queues import Queues
from limiter.api.reads import Reads
from limiter.api.status import StatusReader, page
from limiter.clients.rabbitmq import BLOCKED, is_blocked
from limiter.db.engine import DATABASE_ERRORS
from limiter.domain.fleet_numbers import FleetNumbers
from limiter.logs import log_problem
from limiter.runner.scheduler import JobScheduler
from limiter.telemetry import Telemetry

# Nothing is loaded from elsewhere, no script runs, nobody shows the page inside his own, and no cache keeps it.
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
READ_AGAIN = "15"  # seconds until a browser reads the status page again
OK, SILENT = "ok", "unavailable: no answer in time"
FULL_SECONDS = 30.0  # for which a write without room shows: reads go on, and small writes may still find some


@dataclass(frozen=True)
class Health:
    """What this replica knows of itself and of what it needs."""

    engine: AsyncEngine
    broker: RabbitBroker
    queues: Queues
    scheduler: JobScheduler
    telemetry: Telemetry
    liveness_timeout: float
    patience: float
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
        try:
            async with self.engine.connect() as connection:
                await connection.execute(select(1))
        except DATABASE_ERRORS as error:
            return f"unavailable: {type(error).__name__}"
        full = self.telemetry.last_critical("database_full", FULL_SECONDS)
        return f"no room on its disk: {full}" if full else OK

    async def _rabbitmq(self) -> str:
        if not await self.broker.ping(self.patience):
            return "unavailable: not connected"
        return BLOCKED if await is_blocked(self.broker) else OK

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
        return await self.reads.of(f"status {page}", partial(self._status, page), self.patience, None)

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


async def _status_of(health: Health, request: Request) -> dict[str, Any] | Response:
    """The status with the page of models that is asked for, or the answer why there is none."""
    number = request.query_params.get("page", "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", number, re.ASCII):
        return PlainTextResponse(f"page: {number[:40]!r} is not a whole number from 1 to 999999\n", 422)
    return await health.status(int(number)) or PlainTextResponse("Postgres does not answer: nothing is known\n", 503)


def http_app(health: Health) -> Starlette:
    """The ASGI application of one replica."""

    async def liveness(_: Request) -> Response:
        alive = health.alive()
        return JSONResponse({"status": alive}, 200 if alive == OK else 503)

    async def readiness(_: Request) -> Response:
        found = await health.dependencies()
        ready = all(state == OK for state in found.values())
        warnings = [*health.warnings, *filter(None, [health.log()])]
        page = {"status": OK if ready else "not ready", "dependencies": found, "warnings": warnings}
        return JSONResponse(page, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        await health.show()
        return Response(generate_latest(health.telemetry.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def status_page(request: Request) -> Response:
        shown = await _status_of(health, request)
        if isinstance(shown, Response):
            return shown
        # A header, not a script; and who reads slowly, or with a screen reader, can have it stop (WCAG 2.2.1).
        again = request.query_params.get("refresh") != "off"
        return HTMLResponse(page(shown, again=again), headers=SAFE | ({"Refresh": READ_AGAIN} if again else {}))

    async def status_json(request: Request) -> Response:
        shown = await _status_of(health, request)
        return shown if isinstance(shown, Response) else JSONResponse(shown, headers=SAFE)

    return Starlette(
        routes=[
            Route("/", status_page),
            Route("/status", status_json),
            Route("/health/liveness", liveness),
            Route("/health/readiness", readiness),
            Route("/metrics", metrics),
        ]
    )
