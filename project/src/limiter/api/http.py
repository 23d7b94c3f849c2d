"""Health and metrics over HTTP."""

from dataclasses import dataclass

from faststream.rabbit import RabbitBroker
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limiter.db import idle_spells, ledger, outbox, scaling_states
from limiter.db.engine import DATABASE_ERRORS
from limiter.runner.scheduler import JobScheduler
from limiter.telemetry import Telemetry

OK = "ok"


@dataclass(frozen=True)
class Health:
    """What this replica knows of itself and of what it needs."""

    engine: AsyncEngine
    broker: RabbitBroker
    scheduler: JobScheduler
    telemetry: Telemetry
    liveness_timeout: float
    ping_timeout: float
    warnings: tuple[str, ...] = ()  # settings that are allowed but hardly meant

    def alive(self) -> str:
        """OK, or why this process should be restarted; before the scheduler starts it waits for the database."""
        silent = self.scheduler.silent_for()
        if silent is not None and silent > self.liveness_timeout and not self.scheduler.draining:
            return f"no heartbeat for {silent:.0f} s"
        return OK

    async def dependencies(self) -> dict[str, str]:
        """Each dependency by name, OK or what is wrong with it."""
        return {
            "database": await self._database(),
            "rabbitmq": await self._rabbitmq(),
            "scheduler": self._scheduler(),
            "clock": "off the database's clock" if self.scheduler.skewed else OK,
        }

    async def _database(self) -> str:
        try:
            async with self.engine.connect() as connection:
                await connection.execute(select(1))
        except DATABASE_ERRORS as error:
            return f"unavailable: {type(error).__name__}"
        return OK

    async def _rabbitmq(self) -> str:
        return OK if await self.broker.ping(self.ping_timeout) else "unavailable: not connected"

    def _scheduler(self) -> str:
        if self.scheduler.draining:
            return "draining"
        return "not started" if self.scheduler.silent_for() is None else self.alive()

    async def show_fleet(self) -> None:
        """Read the fleet's gauges from Postgres, so that every replica tells the same."""
        try:
            async with self.engine.connect() as connection:
                in_progress = await ledger.in_progress(connection)
                in_progress["cancel_booking"] = await idle_spells.enforcing(connection)
                pending = await outbox.pending(connection)
                self.telemetry.show_fleet(await scaling_states.observed(connection), in_progress, pending)
        except DATABASE_ERRORS:
            self.telemetry.hide_fleet()


def http_app(health: Health) -> Starlette:
    """The ASGI application of one replica."""

    async def liveness(_: Request) -> Response:
        alive = health.alive()
        return JSONResponse({"status": alive}, 200 if alive == OK else 503)

    async def readiness(_: Request) -> Response:
        found = await health.dependencies()
        ready = all(state == OK for state in found.values())
        page = {"status": OK if ready else "not ready", "dependencies": found, "warnings": health.warnings}
        return JSONResponse(page, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        await health.show_fleet()
        return Response(generate_latest(health.telemetry.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/health/liveness", liveness),
            Route("/health/readiness", readiness),
            Route("/metrics", metrics),
        ]
    )
