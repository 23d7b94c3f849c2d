"""What runs the jobs, and what asks for them."""

from collections.abc import Sequence

from dishka import Provider, Scope, provide
from faststream.rabbit import RabbitBroker
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter import VERSION
from limiter.api.announcements import Announcements
from limiter.api.broker import Consumer
from limiter.api.control import Control
from limiter.api.doctor import Doctor
from limiter.api.handlers import Handlers
from limiter.api.health import Health
from limiter.api.queues import Queues
from limiter.api.status import StatusReader
from limiter.clients.booking import Booking
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.registry import Registry
from limiter.config.base import seconds
from limiter.config.kinds import shard
from limiter.config.settings import Settings
from limiter.domain.policy import Policy
from limiter.effects.closing import SpellClosing
from limiter.runner.job_table import JobTable
from limiter.runner.lock import JobLock
from limiter.runner.scheduler import JobScheduler
from limiter.runner.spec import JobSpec
from limiter.telemetry import Telemetry
from limiter.wiring.replica import Replica
from limiter.wiring.times import utc_now


class Api(Provider):
    """What runs the jobs, and what asks for them."""

    scope = Scope.APP
    replica = provide(Replica)
    control = provide(Control)

    @provide
    def scheduler(
        self, settings: Settings, specs: Sequence[JobSpec], lock: JobLock, table: JobTable, telemetry: Telemetry
    ) -> JobScheduler:
        return JobScheduler(
            specs=specs,
            lock=lock,
            table=table,
            clock=utc_now,
            telemetry=telemetry,
            longest_tick=settings.tick_longest_seconds,
            skew_limit=settings.clock_skew_limit_seconds,
        )

    @provide
    def doctor(
        self,
        settings: Settings,
        engine: AsyncEngine,
        registry: Registry,
        dispatcher: Dispatcher,
        booking: Booking,
        entrypoint: Entrypoint,
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
            exchange=settings.notifier_exchange,
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
    ) -> StatusReader:
        return StatusReader(
            engine=engine,
            telemetry=telemetry,
            specs=specs,
            clock=utc_now,
            replica_id=table.replica_id,
            policy=policy,
            shard=shard(settings.shard),
            metrics_per_model=settings.metrics_per_model,
        )

    @provide
    def handlers(
        self,
        settings: Settings,
        engine: AsyncEngine,
        scheduler: JobScheduler,
        table: JobTable,
        closing: SpellClosing,
        status_reader: StatusReader,
    ) -> Handlers:
        return Handlers(
            engine=engine,
            scheduler=scheduler,
            table=table,
            closing=closing,
            clock=utc_now,
            patience=settings.control_wait_seconds,
            most_changes=settings.control_explain_changes,
            longest_keep=seconds(settings.keep_longest_seconds),
            shard=shard(settings.shard),
            status_reader=status_reader,
        )

    @provide
    def announcements(self, settings: Settings, engine: AsyncEngine, telemetry: Telemetry) -> Announcements:
        return Announcements(engine, telemetry, settings.rabbitmq_reconnect_seconds)

    @provide
    def consumer(
        self,
        settings: Settings,
        broker: RabbitBroker,
        queues: Queues,
        control: Control,
        announcements: Announcements,
        telemetry: Telemetry,
    ) -> Consumer:
        return Consumer(
            broker=broker,
            url=settings.rabbitmq_url.get_secret_value(),
            queues=queues,
            control=control,
            announcements=announcements,
            telemetry=telemetry,
            timeout=settings.rabbitmq_timeout_seconds,
            retry=settings.rabbitmq_reconnect_seconds,
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
            status_reader=status_reader,
            warnings=tuple(settings.warnings.values()),
        )
