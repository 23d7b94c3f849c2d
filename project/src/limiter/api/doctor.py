"""Checks, before anything is started, that everything the service needs is there, by one real call each.

It changes nothing: it reads, and sends neither a command nor an event. What it sends to RabbitMQ reaches no queue.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from limiter.api.checks import CheckResult, Wrong, checked, page_results
from limiter.api.queues import Queues
from limiter.clients.booking import Booking
from limiter.clients.dispatcher import Dispatcher
from limiter.clients.entrypoint import Entrypoint
from limiter.clients.errors import NotFound, ServiceError
from limiter.clients.rabbitmq import BLOCKED, connect
from limiter.clients.rabbitmq_trial import leave, takes_messages
from limiter.clients.registry import Registry
from limiter.db import status
from limiter.db.engine import READ_ONLY, check_schema, unusable_tables
from limiter.domain.audit import counted
from limiter.domain.fleet import Fleet


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
    queues: Queues
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
            yield await checked(what, check)
        fleet: Fleet | None = None
        try:
            fleet = await self.registry.running()
            flaw = f"; {self.registry.flaw}" if self.registry.flaw else ""
            yield CheckResult("ModelRegistry", not flaw, f"{counted(len(fleet.models), 'running model')}{flaw}")
        except ServiceError as error:
            yield CheckResult("ModelRegistry", False, str(error))
        for one in page_results(await self.entrypoint.scrape(), fleet):
            yield one

    async def _postgres(self) -> str:
        setting = func.current_setting
        async with self.engine.connect() as connection:
            found = await connection.execute(select(setting("server_version"), setting("transaction_read_only")))
            version, read_only = found.one()
        if read_only == "on":
            raise Wrong(f"version {version}, {READ_ONLY}")
        return f"version {version}"

    async def _schema(self) -> str:
        await check_schema(self.engine, self.schema)
        role, unusable = await unusable_tables(self.engine, self.schema)
        if unusable:
            grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {self.schema} TO {role}"
            raise Wrong(f"{role} may not read and write {', '.join(unusable)}: {grant}")
        return f"{self.schema} is as this version needs it"

    async def _pooling(self) -> str:
        """Whether a connection is given another server's backend for its next transaction, as pgbouncer may do."""
        if cast(QueuePool, self.engine.pool).size() < 2:
            return "not known: to find out takes two connections, and DATABASE_POOL_SIZE is 1"
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
            raise Wrong(f"{skew:.1f} s off the database's, CLOCK_SKEW_LIMIT_SECONDS is {self.skew_limit:g}: use NTP")
        return f"{skew:.1f} s off the database's"

    async def _rabbitmq(self) -> str:
        connection = await connect(self.rabbitmq_url, self.rabbitmq_timeout)
        try:
            missing = await self.queues.missing(connection)
            if not await takes_messages(connection, self.rabbitmq_timeout):
                raise Wrong(BLOCKED)
        finally:
            await leave(connection, self.rabbitmq_timeout)
        if missing:
            return f"connected; the first replica will declare {', '.join(missing)}"
        return f"connected; the exchange {self.queues.exchange.name} and our queues are there"

    async def _events(self) -> str:
        """Whether a queue is bound to the events' key: RabbitMQ does not tell, what became of the last event does."""
        async with self.engine.connect() as connection:
            error, routed_at = await status.last_event(connection)
        if error is not None:
            raise Wrong(f"an event waits: {error}")
        if routed_at is None:
            return "no event was sent yet, so whether a queue is bound to their key is not known"
        return f"the last event reached a queue at {routed_at:%Y-%m-%d %H:%M:%S} UTC"

    async def _bookings(self) -> str:
        found = await self.booking.bookings(self.clock())
        if found.unreadable:
            raise Wrong(f"reservations of {', '.join(sorted(found.unreadable)[:5])} cannot be understood")
        read = counted(len(found.reservations), "reservation")
        return f"{read}; if reading needs no token, a wrong one shows only at the first cancelling"

    async def _dispatcher(self) -> str:
        try:
            await self.dispatcher.saga(uuid4())
        except NotFound:
            if await self.dispatcher.takes_commands():
                return "it answers"
            # A gateway that passes on nothing but POST there says the same.
            return "it answers, but a GET of its path of commands with 404: look whether MODEL_DISPATCHER_URL is right"
        raise Wrong("it knows a saga that never was")
