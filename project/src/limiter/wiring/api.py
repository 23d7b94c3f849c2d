"""What tells how a replica and its fleet fare."""

from collections.abc import Sequence

from dishka import Provider, Scope, provide
from faststream.rabbit import RabbitBroker
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter import VERSION
from limiter.api.doctor import Doctor
from limiter.api.health import Health
from limiter.api.queues import Queues
from limiter.api.status import StatusReader
from limiter.clients.booking import Booking
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.registry import Registry
from limiter.config.kinds import shard
from limiter.config.settings import Settings
from limiter.domain.policy import Policy
from limiter.runner.job_table import JobTable
from limiter.runner.scheduler import JobScheduler
from limiter.runner.spec import JobSpec
from limiter.telemetry import Telemetry
from limiter.wiring.replica import Replica
from limiter.wiring.times import utc_now


class Api(Provider):
    """What tells how a replica and its fleet fare, and the replica itself."""

    scope = Scope.APP
    replica = provide(Replica)

    @provide
    def doctor(
        self,
        settings: Settings,
        engine: AsyncEngine,
        registry: Registry,
        dispatcher: Dispatcher,
        booking: Booking,
        entrypoint: Entrypoint,
        queues: Queues,
    ) -> Doctor:
        return Doctor(
            engine=engine,
            registry=registry,
            dispatcher=dispatcher,
            booking=booking,
            entrypoint=entrypoint,
            clock=utc_now,
            schema=settings.database_schema,
            rabbitmq_url=settings.rabbitmq_url.get_secret_value(),
            rabbitmq_timeout=settings.rabbitmq_timeout_seconds,
            queues=queues,
            skew_limit=settings.clock_skew_limit_seconds,
        )

    @provide
    def status_reader(
        self,
        settings: Settings,
        engine: AsyncEngine,
        telemetry: Telemetry,
        specs: Sequence[JobSpec],
        table: JobTable,
        policy: Policy,
        scheduler: JobScheduler,
    ) -> StatusReader:
        return StatusReader(
            engine=engine,
            telemetry=telemetry,
            specs=specs,
            scheduler=scheduler,
            clock=utc_now,
            replica_id=table.replica_id,
            policy=policy,
            shard=shard(settings.shard),
            metrics_per_model=settings.metrics_per_model,
            targets=settings.entrypoint_metrics_urls,
        )

    @provide
    def health(
        self,
        settings: Settings,
        engine: AsyncEngine,
        broker: RabbitBroker,
        queues: Queues,
        scheduler: JobScheduler,
        telemetry: Telemetry,
        status_reader: StatusReader,
    ) -> Health:
        telemetry.replica.show_service(VERSION, dry_run=settings.dry_run)
        return Health(
            engine=engine,
            broker=broker,
            queues=queues,
            scheduler=scheduler,
            telemetry=telemetry,
            liveness_timeout=settings.liveness_timeout_seconds,
            patience=settings.health_timeout_seconds,
            page_patience=settings.database_timeout_seconds,
            status_reader=status_reader,
            warnings=tuple(settings.warnings.values()),
        )
