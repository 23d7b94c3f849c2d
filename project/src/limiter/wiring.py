"""The object graph: the only file that knows every concrete class, and the only one that knows dishka."""

import logging
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NewType
from uuid import uuid4

import httpx
from dishka import AsyncContainer, Provider, Scope, make_async_container, provide
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.clients.booking import Booking
from limiter.clients.circuit import Circuit
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.exposition import Family
from limiter.clients.http import Peer
from limiter.clients.notifier import Notifier
from limiter.clients.registry import Registry
from limiter.control import Announcements, Control, Queues
from limiter.db.engine import create_engine
from limiter.db.guard import LockTiming
from limiter.db.locks import Locks
from limiter.domain.action import Job
from limiter.domain.policy import Policy
from limiter.http_api import Health
from limiter.jobs.audit import Audit
from limiter.jobs.commands import Commands
from limiter.jobs.event_dispatch import EventDispatch
from limiter.jobs.events import Post
from limiter.jobs.idle_enforce import IdleEnforce
from limiter.jobs.idle_warning import Ending, IdleWarning
from limiter.jobs.reminder import Reminder
from limiter.jobs.rps_check import RpsCheck
from limiter.jobs.saga_poll import SagaPoll
from limiter.jobs.survey import Surveyor
from limiter.policy_settings import PolicySettings
from limiter.recording import Recorder
from limiter.schedule import Cadence, JobBody, Timetable
from limiter.settings import Settings
from limiter.telemetry import Telemetry

GuardEngine = NewType("GuardEngine", AsyncEngine)


def utc_now() -> datetime:
    return datetime.now(UTC)


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


class Stores(Provider):
    """Postgres and what is shared by all."""

    scope = Scope.APP
    telemetry = provide(Telemetry)

    @provide
    def policy(self, settings: Settings) -> Policy:
        return settings.policy()

    @provide
    def recorder(self, settings: Settings) -> Recorder:
        told = settings.model_dump(mode="json", include=set(PolicySettings.model_fields))
        return Recorder(settings.record_readings, settings.record_readings_max_bytes, told)

    @provide
    async def engine(self, settings: Settings) -> AsyncIterator[AsyncEngine]:
        yield (engine := _engine(settings, settings.database_pool_size))
        await engine.dispose()

    @provide
    async def guards(self, settings: Settings) -> AsyncIterator[GuardEngine]:
        # Locks have connections of their own: busy jobs must not keep a heartbeat waiting for one.
        engine = _engine(settings, 2 * len(Job))
        yield GuardEngine(engine)
        await engine.dispose()

    @provide
    def locks(self, settings: Settings, engine: AsyncEngine, guards: GuardEngine) -> Locks:
        timing = LockTiming(
            settings.lock_heartbeat_seconds, settings.lock_trust_seconds, settings.lock_idle_timeout_seconds
        )
        return Locks(engine, guards, settings.database_schema, uuid4(), timing, settings.job_attempts)


def _engine(settings: Settings, pool_size: int) -> AsyncEngine:
    url, schema = settings.database_url.get_secret_value(), settings.database_schema
    return create_engine(url, schema, pool_size, settings.database_timeout_seconds)


class Clients(Provider):
    """The neighbours, over one shared HTTP client and one broker connection."""

    scope = Scope.APP

    @provide
    async def http(self, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
        # Twice the calls made at once: four neighbours may be asked side by side.
        limits = httpx.Limits(max_connections=2 * settings.http_concurrency)
        async with httpx.AsyncClient(timeout=settings.http_timeout_seconds, limits=limits, trust_env=False) as client:
            yield client

    @provide
    def registry(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Registry:
        peer = _peer("registry", settings.model_registry_url, settings, http, telemetry)
        return Registry(peer, settings.registry_page_size)

    @provide
    def dispatcher(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Dispatcher:
        return Dispatcher(_peer("dispatcher", settings.model_dispatcher_url, settings, http, telemetry))

    @provide
    def booking(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Booking:
        token = settings.booking_service_token.get_secret_value()
        peer = _peer("booking", settings.booking_service_url, settings, http, telemetry, token)
        return Booking(peer, settings.booking_page_size, _seconds(settings.booking_lookback_seconds))

    @provide
    def entrypoint(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Entrypoint:
        urls = settings.entrypoint_metrics_urls
        peers = [_peer("entrypoint", url, settings, http, telemetry) for url in urls]
        family = Family(
            settings.entrypoint_calls_metric, settings.entrypoint_model_label, settings.entrypoint_match_labels
        )
        return Entrypoint(peers, family, utc_now)

    @provide
    def broker(self, settings: Settings) -> RabbitBroker:
        return RabbitBroker(
            settings.rabbitmq_url.get_secret_value(),
            fail_fast=False,  # without RabbitMQ the replica stays up, not ready, and recovers by itself
            timeout=settings.rabbitmq_timeout_seconds,
            reconnect_interval=settings.rabbitmq_reconnect_seconds,
            graceful_timeout=settings.shutdown_timeout_seconds,
            default_channel=Channel(prefetch_count=len(Job)),
            app_id="rps-limiter",
            logger=logging.getLogger("faststream"),
            log_level=logging.DEBUG,
        )

    @provide
    def queues(self, settings: Settings) -> Queues:
        exchange = RabbitExchange(settings.notifier_exchange, type=ExchangeType.TOPIC, durable=True)
        key = settings.notifier_deployed_routing_key
        return Queues(settings.control_queue, settings.deployed_queue, key, exchange)

    @provide
    def notifier(self, settings: Settings, broker: RabbitBroker, queues: Queues) -> Notifier:
        return Notifier(broker, queues.exchange, settings.rabbitmq_timeout_seconds)


def _peer(name: str, url: str, settings: Settings, http: httpx.AsyncClient, told: Telemetry, token: str = "") -> Peer:
    return Peer(
        name=name,
        url=url,
        client=http,
        telemetry=told,
        timeout=settings.http_timeout_seconds,
        attempts=settings.http_attempts,
        retry_first=settings.http_retry_first_seconds,
        concurrency=settings.http_concurrency,
        circuit=Circuit(settings.http_circuit_failures, settings.http_circuit_rest_seconds),
        token=token,
        read_only=settings.dry_run,
    )


class Jobs(Provider):
    """The jobs, and what runs and asks them."""

    scope = Scope.APP
    audit = provide(Audit)
    ending = provide(Ending)
    idle_warning = provide(IdleWarning)
    rps_check = provide(RpsCheck)
    idle_enforce = provide(IdleEnforce)

    @provide
    def commands(self, settings: Settings, dispatcher: Dispatcher, telemetry: Telemetry) -> Commands:
        return Commands(dispatcher, telemetry, settings.http_concurrency)

    @provide
    def surveyor(
        self, registry: Registry, booking: Booking, entrypoint: Entrypoint, policy: Policy, telemetry: Telemetry
    ) -> Surveyor:
        return Surveyor(registry, booking, entrypoint, policy, telemetry, utc_now)

    @provide
    def post(self, settings: Settings) -> Post:
        return Post(
            settings.notifier_no_use_routing_key,
            settings.notifier_deployed_routing_key,
            settings.user_email_template,
            settings.dry_run,
        )

    @provide
    def reminder(self, settings: Settings, post: Post) -> Reminder:
        return Reminder(post, settings.deployed_reminder_enabled, _seconds(settings.deployed_reminder_grace_seconds))

    @provide
    def saga_poll(
        self, settings: Settings, dispatcher: Dispatcher, registry: Registry, policy: Policy, telemetry: Telemetry
    ) -> SagaPoll:
        return SagaPoll(dispatcher, registry, policy, telemetry, settings.http_concurrency)

    @provide
    def event_dispatch(self, settings: Settings, notifier: Notifier, telemetry: Telemetry) -> EventDispatch:
        first, longest = settings.event_retry_first_seconds, settings.event_retry_longest_seconds
        return EventDispatch(notifier, telemetry, utc_now, settings.event_window, _seconds(first), _seconds(longest))

    @provide
    def bodies(
        self, rps: RpsCheck, warning: IdleWarning, enforce: IdleEnforce, sagas: SagaPoll, events: EventDispatch
    ) -> Mapping[Job, JobBody]:
        bodies: tuple[JobBody, ...] = (rps, warning, enforce, sagas, events)
        return dict(zip(Job, bodies, strict=True))

    @provide
    def timetable(self, settings: Settings, locks: Locks, told: Telemetry, jobs: Mapping[Job, JobBody]) -> Timetable:
        cadences = {job: Cadence(settings.interval(job), settings.max_run(job)) for job in jobs}
        limits = (settings.tick_longest_seconds, settings.clock_skew_limit_seconds)
        return Timetable(locks, jobs, cadences, utc_now, told, *limits)

    @provide
    def control(self, settings: Settings, broker: RabbitBroker, timetable: Timetable, locks: Locks) -> Control:
        limits = (settings.control_wait_seconds, settings.control_explain_changes)
        return Control(broker, timetable, locks, utc_now, *limits)

    @provide
    def announcements(self, settings: Settings, engine: AsyncEngine, telemetry: Telemetry) -> Announcements:
        return Announcements(engine, telemetry, settings.rabbitmq_reconnect_seconds)

    @provide
    def health(
        self, settings: Settings, engine: AsyncEngine, broker: RabbitBroker, timetable: Timetable, telemetry: Telemetry
    ) -> Health:
        liveness, ping = settings.liveness_timeout_seconds, settings.rabbitmq_timeout_seconds
        return Health(engine, broker, timetable, telemetry, liveness, ping)


def make_container(settings: Settings, *overrides: Provider) -> AsyncContainer:
    """The whole graph, checked when it is made; tests may override parts of it."""
    return make_async_container(Stores(), Clients(), Jobs(), *overrides, context={Settings: settings})
