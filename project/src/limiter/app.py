"""One replica's life: the order in which its parts start and stop."""

import asyncio
import signal
import sys

from loguru import logger

from limiter.api.server import http_server
from limiter.config.loading import WrongSettings, load
from limiter.config.settings import Settings
from limiter.db.engine import DATABASE_ERRORS, SchemaMissing, check_schema, describe
from limiter.garbage import give_memory_back, keep_collecting
from limiter.logs import setup_logging
from limiter.wiring import Replica, compose

LOOK_AT_THE_LOOP = 0.05  # seconds: twenty looks a second cost a thousandth of a core
# Seconds that a thread at work keeps the loop waiting, by default 5 ms: for an answer it does so three times, and
# sixteen answers may come at once.
HAND_OVER = 0.0002
LEFTOVER_CANCELS = 5  # what survives one cancel ends at the second; what survives all of these is not waited for here


def main() -> int:
    """Run a replica until it is told to stop; returns the exit code."""
    try:
        settings = load()
    except WrongSettings as error:
        setup_logging("INFO", "text")
        for line in str(error).splitlines():
            logger.error("wrong setting: {}", line)
        return 2
    setup_logging(settings.log_level, settings.log_format)
    give_memory_back()
    for event, text in settings.warnings.items():
        logger.bind(event=event).warning("{}", text)
    return asyncio.run(serve(settings))


async def serve(settings: Settings) -> int:
    """HTTP first, so that health can be asked; then the database, the scheduler, the broker. Returns the exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with compose(settings) as replica:
        sys.setswitchinterval(HAND_OVER)
        aside = [asyncio.create_task(_watch_the_loop(replica)), asyncio.create_task(keep_collecting())]
        code = await _run(settings, replica, stop)
        for task in aside:
            task.cancel()
    await _end_leftovers()
    logger.bind(event="stopped", code=code).info("stopped")
    return code


async def _watch_the_loop(replica: Replica) -> None:
    """Note how late the loop wakes this: whatever blocks it blocks health, heartbeats and timeouts too."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_AT_THE_LOOP
        await asyncio.sleep(LOOK_AT_THE_LOOP)
        replica.telemetry.replica.stalled(max(0.0, loop.time() - due))


async def _run(settings: Settings, replica: Replica, stop: asyncio.Event) -> int:
    server = http_server(replica.health, settings.http_host, settings.http_port)
    http = asyncio.create_task(server.serve())
    work = asyncio.create_task(_work(settings, replica))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({http, work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    code = _exit_code(http, work, asked=stop.is_set())
    logger.bind(event="stopping").info("stopping")
    await replica.scheduler.stop(settings.shutdown_timeout_seconds)
    work.cancel()
    await asyncio.wait({work})
    await replica.consumer.stop()
    stopping.cancel()
    server.should_exit = True
    await asyncio.wait({http})
    return code


def _exit_code(*tasks: asyncio.Task[None], asked: bool) -> int:
    """0 if we were asked to stop; otherwise something ended that should not have."""
    ended = (task.exception() for task in tasks if task.done() and not task.cancelled())
    errors = [error for error in ended if error is not None]
    for error in errors:
        logger.bind(event="cannot_run").error("{}", str(error) or repr(error))
    return 0 if asked and not errors else 1


async def _work(settings: Settings, replica: Replica) -> None:
    """Everything but HTTP; ends only by an error or by being cancelled."""
    await wait_for_database(settings, replica)
    replica.scheduler.start()
    logger.bind(event="started").info("the scheduler is running")
    await replica.consumer.start()
    await replica.consumer.keep()


async def wait_for_database(settings: Settings, replica: Replica) -> None:
    """Wait until Postgres answers, and note the jobs there; raises SchemaMissing if it answers without our schema."""
    while True:
        try:
            await check_schema(replica.engine, settings.database_schema)
            return await replica.table.register()
        except SchemaMissing:
            raise
        except DATABASE_ERRORS as error:
            replica.telemetry.goes_on("database_unavailable", f"at start: {describe(error)}")
            await asyncio.sleep(settings.rabbitmq_reconnect_seconds)


async def _end_leftovers() -> None:
    """End what libraries left running: aio-pika, while it connects, survives a cancel, and the loop would never end."""
    for _ in range(LEFTOVER_CANCELS):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)
