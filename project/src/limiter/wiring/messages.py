"""What is done with the messages of RabbitMQ: commands by hand, the platform's announcements."""

from dishka import Provider, Scope, provide
from faststream.rabbit import RabbitBroker
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.api.announcements import Announcements
from limiter.api.broker import Consumer
from limiter.api.control import Control
from limiter.api.handlers import Handlers
from limiter.api.queues import Queues
from limiter.api.status import StatusReader
from limiter.config.base import seconds
from limiter.config.kinds import shard
from limiter.config.settings import Settings
from limiter.effects.closing import SpellClosing
from limiter.runner.job_table import JobTable
from limiter.runner.scheduler import JobScheduler
from limiter.telemetry import Telemetry
from limiter.wiring.times import utc_now


class Messages(Provider):
    """What is done with the messages of RabbitMQ."""

    scope = Scope.APP
    control = provide(Control)

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
            again=settings.rabbitmq_declare_seconds,
        )
