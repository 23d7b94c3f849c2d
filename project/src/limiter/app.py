"""One replica's life: the order in which its parts start and stop."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import aio_pika
import uvicorn
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPChannelError
from dishka import AsyncContainer
from faststream.rabbit import RabbitBroker
from loguru import logger
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.control import Announcements, Control, Queues, declare, subscribe
from limiter.db.engine import DATABASE_ERRORS, SchemaMissing, check_schema, explain
from limiter.db.locks import Locks
from limiter.http_api import Health, http_app
from limiter.schedule import Timetable
from limiter.settings import Settings, WrongSettings, load
from limiter.telemetry import Telemetry, setup_logging
from limiter.wiring import make_container

LEFTOVER_CANCELS = 5  # what survives one cancel ends at the second; what survives all of these is not waited for here


class _Server(uvicorn.Server):
    """Uvicorn, leaving the signals to us: the jobs must end before it does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> int:
    """Run a replica until it is told to stop; returns the exit code."""
    try:
        settings = load()
    except WrongSettings as error:
        setup_logging("INFO", "text")
        logger.error("wrong settings:\n{}", error)
        return 2
    setup_logging(settings.log_level, settings.log_format)
    return asyncio.run(serve(settings))


async def serve(settings: Settings) -> int:
    """HTTP first, so that health can be asked; then the database, the timetable, the broker. Returns the exit code."""
    container = make_container(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = _server(settings, await container.get(Health))
    http = asyncio.create_task(server.serve())
    work = asyncio.create_task(_work(settings, container))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({http, work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    code = _exit_code(work, stop.is_set())
    logger.bind(event="stopping").info("stopping")
    await _shut_down(settings, container, work)
    stopping.cancel()
    server.should_exit = True
    await http
    await container.close()
    await _end_leftovers()
    logger.bind(event="stopped", code=code).info("stopped")
    return code


def _server(settings: Settings, health: Health) -> _Server:
    config = uvicorn.Config(
        http_app(health),
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    return _Server(config)


def _exit_code(work: asyncio.Task[None], asked: bool) -> int:
    """0 if we were asked to stop; otherwise something ended that should not have."""
    if work.done() and not work.cancelled() and work.exception() is not None:
        logger.bind(event="cannot_run").error("{}", str(work.exception()) or repr(work.exception()))
        return 1
    return 0 if asked else 1


async def _work(settings: Settings, container: AsyncContainer) -> None:
    """Everything but HTTP; ends only by an error or by being cancelled."""
    await wait_for_database(settings, container)
    timetable = await container.get(Timetable)
    timetable.start()
    logger.bind(event="started").info("the timetable is running")
    await start_broker(container)
    await asyncio.Event().wait()


async def wait_for_database(settings: Settings, container: AsyncContainer) -> None:
    """Wait until Postgres answers, and note the jobs there; raises SchemaMissing if it answers without our schema."""
    engine, telemetry = await container.get(AsyncEngine), await container.get(Telemetry)
    locks = await container.get(Locks)
    while True:
        try:
            await check_schema(engine, settings.database_schema)
            return await locks.register()
        except SchemaMissing:
            raise
        except DATABASE_ERRORS as error:
            telemetry.critical("database_unavailable", f"at start: {explain(error)}")
            await asyncio.sleep(settings.rabbitmq_reconnect_seconds)


async def start_broker(container: AsyncContainer) -> RabbitBroker:
    """Consume messages; while RabbitMQ is away, or refuses what we declare, say so and try again."""
    broker, queues = await container.get(RabbitBroker), await container.get(Queues)
    settings, telemetry = await container.get(Settings), await container.get(Telemetry)
    subscribe(broker, queues, await container.get(Control), await container.get(Announcements))
    while True:
        try:
            await _consume(settings, broker, queues)
            break
        except AMQPChannelError as error:
            telemetry.critical("rabbitmq_refused", f"at start: {explain(error)}")
        except CONNECTION_EXCEPTIONS as error:
            telemetry.critical("rabbitmq_unavailable", f"at start: {explain(error)}")
        await asyncio.sleep(settings.rabbitmq_reconnect_seconds)
    logger.bind(event="broker_connected").info("connected to RabbitMQ")
    _watch(await broker.connect(), await container.get(Timetable), telemetry)
    return broker


def _watch(connection: AbstractRobustConnection, timetable: Timetable, telemetry: Telemetry) -> None:
    """Say when RabbitMQ is lost, for as long as it is, and when it is back; aio-pika connects again by itself."""

    def lost(_: object, error: BaseException | None) -> None:
        if not timetable.draining:
            telemetry.critical("rabbitmq_unavailable", explain(error) if error else "connection closed")

    def back(_: object) -> None:
        logger.bind(event="broker_connected").info("connected to RabbitMQ again")

    connection.close_callbacks.add(lost)
    connection.reconnect_callbacks.add(back)


async def _consume(settings: Settings, broker: RabbitBroker, queues: Queues) -> None:
    """Declare everything before anything is consumed: a refusal costs the channel, and the deliveries on it."""
    patience = settings.rabbitmq_timeout_seconds
    # The broker would wait in silence for a RabbitMQ that is away, so it is asked only when one answers.
    async with await aio_pika.connect(settings.rabbitmq_url.get_secret_value(), timeout=patience):
        await broker.connect()
    async with asyncio.timeout(patience):
        await declare(broker, queues)
        for name in (queues.control, queues.deployed):
            await broker.declare_queue(queues.live(name))
        for subscriber in broker.subscribers:
            if not subscriber.running:  # by an earlier attempt, which failed at the next queue
                await subscriber.start()


async def _shut_down(settings: Settings, container: AsyncContainer, work: asyncio.Task[None]) -> None:
    timetable, broker = await container.get(Timetable), await container.get(RabbitBroker)
    await timetable.stop(settings.shutdown_timeout_seconds)
    work.cancel()
    await asyncio.wait({work})
    leaving = asyncio.ensure_future(broker.stop())
    await asyncio.wait({leaving}, timeout=settings.rabbitmq_timeout_seconds)
    if not leaving.done() or leaving.exception() is not None:
        why = leaving.exception() if leaving.done() else "no answer in time"
        logger.bind(event="broker_left").warning("left RabbitMQ without its consent: {}", why)


async def _end_leftovers() -> None:
    """End what libraries left running: aio-pika, while it connects, survives a cancel, and the loop would never end."""
    for _ in range(LEFTOVER_CANCELS):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)
