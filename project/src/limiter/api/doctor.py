"""Checks, before anything is started, that everything the service needs is there, by one real call each.

It changes nothing: it reads, and sends neither a command nor an event.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

import aio_pika
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.clients.booking import Booking
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.errors import NotFound, ServiceError
from limiter.clients.rabbitmq import connect
from limiter.clients.registry import Registry
from limiter.db import status
from limiter.db.engine import DATABASE_ERRORS, SchemaMissing, check_schema, describe
from limiter.domain.audit import counted
from limiter.domain.fleet import Fleet
from limiter.domain.usage import Scrape, ScrapedPage

OK = "ok"


class CheckResult(NamedTuple):
    """What was looked at, whether it is as it should be, and how it is or what to do."""

    what: str
    good: bool
    text: str

    def __str__(self) -> str:
        return f"{OK if self.good else 'NOT OK':<7} {self.what}: {self.text}"


@dataclass(frozen=True)
class Doctor:
    """Looks at Postgres, RabbitMQ and each external service; `skew_limit` is in seconds, 0 for any."""

    engine: AsyncEngine
    registry: Registry
    dispatcher: Dispatcher
    booking: Booking
    entrypoint: Entrypoint
    clock: Callable[[], datetime]
    schema: str
    rabbitmq_url: str
    rabbitmq_timeout: float
    exchange: str
    skew_limit: float

    async def results(self) -> AsyncIterator[CheckResult]:
        """Everything it finds, one after the other."""
        for what, check in (
            ("Postgres", self._postgres),
            ("schema", self._schema),
            ("pooling", self._pooling),
            ("clock", self._clock_skew),
            ("RabbitMQ", self._rabbitmq),
            ("Notificator", self._events),
            ("BookingService", self._bookings),
            ("ModelDispatcher", self._dispatcher),
        ):
            yield await _checked(what, check)
        fleet: Fleet | None = None
        try:
            fleet = await self.registry.running()
            whole = "" if fleet.complete and not fleet.unreadable else "; not every entry can be understood"
            yield CheckResult("ModelRegistry", not whole, f"{counted(len(fleet.models), 'running model')}{whole}")
        except ServiceError as error:
            yield CheckResult("ModelRegistry", False, str(error))
        for one in _of_pages(await self.entrypoint.scrape(), fleet):
            yield one

    async def _postgres(self) -> str:
        async with self.engine.connect() as connection:
            version = await connection.scalar(select(func.current_setting("server_version")))
        return f"version {version}"

    async def _schema(self) -> str:
        await check_schema(self.engine, self.schema)
        return f"{self.schema} is as this version needs it"

    async def _pooling(self) -> str:
        """Whether a connection is given another server's backend for its next transaction, as pgbouncer may do."""
        backend = select(func.pg_backend_pid())
        async with self.engine.connect() as first, self.engine.connect() as second:
            before = await first.scalar(backend)
            await first.rollback()
            await second.scalar(backend)  # whose transaction stays open, and keeps the backend that has become free
            shared = await first.scalar(backend) != before
        return "by transaction" if shared else "by session, or none: as good, but it takes more connections"

    async def _clock_skew(self) -> str:
        async with self.engine.connect() as connection:
            now = await connection.scalar(select(func.clock_timestamp()))
        skew = abs((self.clock() - now).total_seconds()) if now else 0.0
        if self.skew_limit and skew > self.skew_limit:
            raise _Wrong(f"{skew:.1f} s off the database's, CLOCK_SKEW_LIMIT_SECONDS is {self.skew_limit:g}: use NTP")
        return f"{skew:.1f} s off the database's"

    async def _rabbitmq(self) -> str:
        connection = await connect(self.rabbitmq_url, self.rabbitmq_timeout)
        try:
            async with connection.channel() as channel:
                await channel.get_exchange(self.exchange)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return f"connected; the first replica will declare the exchange {self.exchange}"
        finally:
            await connection.close()
        return f"connected; the exchange {self.exchange} is there"

    async def _events(self) -> str:
        """Whether a queue is bound to the events' key: RabbitMQ does not tell, what became of the last event does."""
        async with self.engine.connect() as connection:
            error, routed_at = await status.last_event(connection)
        if error is not None:
            raise _Wrong(f"an event waits: {error}")
        if routed_at is None:
            return "no event was sent yet, so whether a queue is bound to their key is not known"
        return f"the last event reached a queue at {routed_at:%Y-%m-%d %H:%M:%S} UTC"

    async def _bookings(self) -> str:
        found = await self.booking.bookings(self.clock())
        if found.unreadable:
            raise _Wrong(f"reservations of {', '.join(sorted(found.unreadable)[:5])} cannot be understood")
        return counted(len(found.reservations), "reservation")

    async def _dispatcher(self) -> str:
        try:
            await self.dispatcher.saga(uuid4())
        except NotFound:
            return "it answers"
        raise _Wrong("it knows a saga that never was")


class _Wrong(Exception):
    """What is found is not as it should be."""


async def _checked(what: str, check: Callable[[], Awaitable[str]]) -> CheckResult:
    try:
        return CheckResult(what, True, await check())
    except (_Wrong, SchemaMissing, ServiceError) as error:
        return CheckResult(what, False, str(error))
    except (*DATABASE_ERRORS, aio_pika.exceptions.AMQPError) as error:
        return CheckResult(what, False, describe(error))


def _of_pages(scrapes: Sequence[Scrape], fleet: Fleet | None) -> Iterator[CheckResult]:
    """Each metrics page, and how many of the running models have calls on any: of none, the label may be wrong."""
    names: set[str] = set()
    for scrape in scrapes:
        good = isinstance(scrape, ScrapedPage)
        if isinstance(scrape, ScrapedPage):
            names |= set(scrape.names.values())
            text = f"calls of {counted(len(set(scrape.names.values())), 'model')}"
        else:
            text = f"{scrape.reason}: {scrape.detail}"
        yield CheckResult(f"Entrypoint {scrape.target}", good, text)
    if fleet is not None and fleet.models:
        running = fleet.replicas_by_name.keys()
        text = f"calls of {len(names & running)} of {counted(len(running), 'running name')}"
        hint = "" if names & running else ": unless nobody has called yet, ENTRYPOINT_MODEL_LABEL or the like is wrong"
        yield CheckResult("Entrypoint, all pages", not hint, text + hint)
