"""The external services."""

import logging
from collections.abc import AsyncIterator

import httpx
from dishka import Provider, Scope, provide
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange

from limiter.api.queues import Queues
from limiter.clients.booking import Booking
from limiter.clients.certificates import Certificates
from limiter.clients.circuit import Circuit
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.http import ServiceClient
from limiter.clients.label_sets import Family
from limiter.clients.notifier import Notifier
from limiter.clients.rabbitmq import forget_closed_channels, read_leniently
from limiter.clients.registry import Registry
from limiter.clients.transport import Transport
from limiter.config.base import seconds
from limiter.config.kinds import shard, trusting
from limiter.config.settings import Settings
from limiter.domain.job import Job
from limiter.telemetry import Telemetry
from limiter.wiring.times import utc_now
from limiter.wiring.tracing import Tracing


class Clients(Provider):
    """The external services, over one shared HTTP client and one broker connection."""

    scope = Scope.APP

    @provide
    async def http(self, settings: Settings, tracing: Tracing) -> AsyncIterator[httpx.AsyncClient]:
        # Twice the calls made at once: four services may be asked side by side.
        files = settings.http_ca_file, settings.http_certificate_file
        certificates = Certificates(trusting(*files), *files) if _needs_certificates(settings) else None
        transport = Transport(certificates, 2 * settings.http_concurrency)
        timeout = settings.http_timeout_seconds
        async with httpx.AsyncClient(timeout=timeout, transport=transport, trust_env=False) as client:
            tracing.http(client)
            yield client

    @provide
    def registry(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Registry:
        client = _client("registry", settings.model_registry_url, settings, http, telemetry)
        telemetry.fleet.show_budget(settings.policy().budget.limits)
        budgets = settings.scale_fleet_budgets
        return Registry(client, settings.registry_page_size, budgets, shard(settings.shard))

    @provide
    def dispatcher(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Dispatcher:
        return Dispatcher(_client("dispatcher", settings.model_dispatcher_url, settings, http, telemetry))

    @provide
    def booking(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Booking:
        token = settings.booking_service_token.get_secret_value()
        client = _client("booking", settings.booking_service_url, settings, http, telemetry, token)
        return Booking(client, settings.booking_page_size, seconds(settings.booking_lookback_seconds))

    @provide
    def entrypoint(self, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry) -> Entrypoint:
        urls = settings.entrypoint_metrics_urls
        clients = [_client("entrypoint", url, settings, http, telemetry) for url in urls]
        label, match = settings.entrypoint_model_label, settings.entrypoint_match_labels
        gauge, share = settings.entrypoint_inflight_metric, shard(settings.shard)
        telemetry.watch_targets(urls)
        return Entrypoint(
            clients=clients,
            family=Family(settings.entrypoint_calls_metric, label, match, share),
            clock=utc_now,
            in_flight=Family(gauge, label, match, share) if gauge else None,
            oldest=seconds(2 * settings.rps_check_interval_seconds),
        )

    @provide
    def broker(self, settings: Settings, tracing: Tracing) -> RabbitBroker:
        read_leniently()
        forget_closed_channels()
        return RabbitBroker(
            settings.rabbitmq_url.get_secret_value(),
            fail_fast=False,  # without RabbitMQ the replica stays up, not ready, and recovers by itself
            timeout=settings.rabbitmq_timeout_seconds,
            reconnect_interval=settings.rabbitmq_reconnect_seconds,
            graceful_timeout=settings.shutdown_timeout_seconds,
            default_channel=Channel(prefetch_count=len(Job)),
            app_id="rps-limiter",
            middlewares=tracing.middlewares(),
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


def _needs_certificates(settings: Settings) -> bool:
    """Whether any URL is https; certificates take 50 ms to load, and are of no use to the others."""
    urls = (settings.model_registry_url, settings.model_dispatcher_url, settings.booking_service_url)
    return any(url.startswith("https") for url in (*urls, *settings.entrypoint_metrics_urls))


def _client(
    name: str, url: str, settings: Settings, http: httpx.AsyncClient, telemetry: Telemetry, token: str = ""
) -> ServiceClient:
    return ServiceClient(
        name=name,
        url=url,
        http=http,
        telemetry=telemetry,
        timeout=settings.http_timeout_seconds,
        attempts=settings.http_attempts,
        retry_first=settings.http_retry_first_seconds,
        concurrency=settings.http_concurrency,
        circuit=Circuit(settings.http_circuit_failures, settings.http_circuit_rest_seconds),
        token=token,
        read_only=settings.dry_run,
    )
