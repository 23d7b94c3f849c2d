"""Postgres, and what all parts share."""

from collections.abc import AsyncIterator
from typing import NewType
from uuid import uuid4

from dishka import Provider, Scope, provide
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.config.policy import PolicySettings
from limiter.config.settings import Settings
from limiter.db.engine import closed_at_the_end, create_engine
from limiter.domain.job import Job
from limiter.domain.policy import Policy
from limiter.recording.recorder import Recorder
from limiter.runner.job_table import JobTable
from limiter.runner.keys import LockKeys, LockTiming
from limiter.runner.lock import JobLock
from limiter.telemetry import Telemetry
from limiter.wiring.tracing import Tracing

GuardEngine = NewType("GuardEngine", AsyncEngine)


class Stores(Provider):
    """Postgres and what is shared by all."""

    scope = Scope.APP
    telemetry = provide(Telemetry)

    @provide
    def policy(self, settings: Settings) -> Policy:
        return settings.policy()

    @provide
    def recorder(self, settings: Settings, telemetry: Telemetry) -> Recorder:
        policy = settings.model_dump(mode="json", include=set(PolicySettings.model_fields))
        return Recorder(
            settings.record_readings,
            limit=settings.record_readings_max_bytes,
            settings=policy,
            stopped=telemetry.replica.recording_stopped,
        )

    @provide
    async def tracing(self, settings: Settings, telemetry: Telemetry) -> AsyncIterator[Tracing]:
        if not settings.traces_url:
            yield Tracing()
            return
        from limiter.wiring.opentelemetry_tracing import OpenTelemetryTracing  # its packages are an optional extra

        tracing = OpenTelemetryTracing(settings.traces_url)
        telemetry.run_span = tracing.run_span
        yield tracing
        await tracing.flush()

    @provide
    async def engine(self, settings: Settings, tracing: Tracing) -> AsyncIterator[AsyncEngine]:
        async with closed_at_the_end(_engine(settings, settings.database_pool_size)) as engine:
            tracing.statements(engine)
            yield engine

    @provide
    async def guards(self, settings: Settings) -> AsyncIterator[GuardEngine]:
        # Locks have connections of their own: busy jobs must not keep a heartbeat waiting for one.
        async with closed_at_the_end(_engine(settings, 2 * len(Job))) as engine:
            yield GuardEngine(engine)

    @provide
    def keys(self, settings: Settings) -> LockKeys:
        timing = LockTiming(
            heartbeat=settings.lock_heartbeat_seconds,
            trust=settings.lock_trust_seconds,
            idle_timeout=settings.lock_idle_timeout_seconds,
        )
        return LockKeys(settings.database_schema, timing)

    @provide
    def lock(self, guards: GuardEngine, keys: LockKeys) -> JobLock:
        return JobLock(guards, keys)

    @provide
    def table(self, settings: Settings, engine: AsyncEngine, keys: LockKeys) -> JobTable:
        return JobTable(engine, keys, replica_id=uuid4(), attempts=settings.job_attempts)


def _engine(settings: Settings, pool_size: int) -> AsyncEngine:
    url, schema = settings.database_url.get_secret_value(), settings.database_schema
    return create_engine(url, schema, pool_size, settings.database_timeout_seconds)
