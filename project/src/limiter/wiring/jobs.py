"""The jobs, and what their effects are made of."""

from dishka import Provider, Scope, provide

from limiter.clients.booking import Booking
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.notifier import Notifier
from limiter.clients.registry import Registry
from limiter.config.base import seconds
from limiter.config.kinds import shard
from limiter.config.settings import Settings
from limiter.domain.policy import Policy
from limiter.effects.audit import Audit
from limiter.effects.closing import SpellClosing
from limiter.effects.commands import Commands
from limiter.effects.enforcing import Enforcing
from limiter.effects.events import CANCELLED, STARTED, WARNING, WITHDRAWN, EventWriter
from limiter.effects.memory import WarmMemory
from limiter.effects.reminder import Reminder
from limiter.effects.snapshot import SnapshotReader
from limiter.effects.verdicts import Verdicts
from limiter.jobs.cleanup import Cleanup
from limiter.jobs.event_dispatch import EventDispatch
from limiter.jobs.idle_enforce import IdleEnforce
from limiter.jobs.idle_warning import IdleWarning
from limiter.jobs.rps_check import RpsCheck
from limiter.jobs.saga_poll import SagaPoll
from limiter.telemetry import Telemetry
from limiter.wiring.times import deleting, in_flight, utc_now


class Jobs(Provider):
    """The jobs, and what their effects are made of."""

    scope = Scope.APP
    verdicts = provide(Verdicts)
    audit = provide(Audit)
    closing = provide(SpellClosing)
    idle_warning = provide(IdleWarning)
    rps_check = provide(RpsCheck)
    idle_enforce = provide(IdleEnforce)

    @provide
    def warm(self, settings: Settings, telemetry: Telemetry) -> WarmMemory:
        return WarmMemory(settings.database_schema, shard(settings.shard), telemetry)

    @provide
    def commands(self, settings: Settings, dispatcher: Dispatcher, telemetry: Telemetry) -> Commands:
        return Commands(dispatcher, telemetry, utc_now, settings.http_concurrency)

    @provide
    def enforcing(
        self,
        settings: Settings,
        reader: SnapshotReader,
        booking: Booking,
        commands: Commands,
        closing: SpellClosing,
        telemetry: Telemetry,
        audit: Audit,
    ) -> Enforcing:
        return Enforcing(reader, booking, commands, closing, telemetry, audit, deleting(settings))

    @provide
    def reader(
        self,
        settings: Settings,
        registry: Registry,
        booking: Booking,
        entrypoint: Entrypoint,
        policy: Policy,
        telemetry: Telemetry,
        warm: WarmMemory,
    ) -> SnapshotReader:
        share = shard(settings.shard)
        return SnapshotReader(registry, booking, entrypoint, policy, telemetry, utc_now, share, warm)

    @provide
    def writer(self, settings: Settings) -> EventWriter:
        return EventWriter(
            no_use_key=settings.notifier_no_use_routing_key,
            deployed_key=settings.notifier_deployed_routing_key,
            email_template=settings.user_email_template,
            dry_run=settings.dry_run,
        )

    @provide
    def reminder(self, settings: Settings, writer: EventWriter) -> Reminder:
        grace = seconds(settings.deployed_reminder_grace_seconds)
        return Reminder(writer, settings.deployed_reminder_enabled, grace)

    @provide
    def saga_poll(
        self,
        settings: Settings,
        dispatcher: Dispatcher,
        registry: Registry,
        commands: Commands,
        policy: Policy,
        telemetry: Telemetry,
    ) -> SagaPoll:
        return SagaPoll(
            dispatcher=dispatcher,
            registry=registry,
            commands=commands,
            policy=policy,
            telemetry=telemetry,
            in_flight=in_flight(settings),
            at_once=settings.http_concurrency,
        )

    @provide
    def event_dispatch(
        self, settings: Settings, notifier: Notifier, writer: EventWriter, policy: Policy, telemetry: Telemetry
    ) -> EventDispatch:
        no_use, deployed = settings.notifier_no_use_routing_key, settings.notifier_deployed_routing_key
        return EventDispatch(
            notifier=notifier,
            writer=writer,
            policy=policy,
            telemetry=telemetry,
            clock=utc_now,
            window=settings.event_window,
            keys={WARNING: no_use, WITHDRAWN: no_use, CANCELLED: no_use, STARTED: deployed},
            retry_first=seconds(settings.event_retry_first_seconds),
            retry_longest=seconds(settings.event_retry_longest_seconds),
        )

    @provide
    def cleanup(self, settings: Settings, entrypoint: Entrypoint) -> Cleanup:
        return Cleanup(
            targets=entrypoint.targets,
            history=seconds(settings.history_retention_seconds),
            contacts=seconds(settings.contact_retention_seconds),
            batch=settings.cleanup_batch_rows,
        )
