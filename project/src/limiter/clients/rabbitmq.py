"""A plain connection to RabbitMQ, for what needs no recovery by itself, and what all connections have in common."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection, UnderlayChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, InvalidFrameError
from aio_pika.tools import OneShotCallback
from aiormq.abc import AbstractConnection as UnderConnection
from faststream.rabbit import RabbitBroker
from pamqp import decode

from limiter.clients.rabbitmq_errors import in_words

BLOCKED = "RabbitMQ takes no messages: it has a memory or disk alarm"
AT_ONCE = 0.01  # seconds: of a connection that is not blocked it is known without waiting


async def connect(url: str, timeout: float | None = None) -> AbstractConnection:
    """Connect within `timeout` seconds; raises one of aio_pika's CONNECTION_EXCEPTIONS."""
    # Not aio_pika.connect: it leaves a connection that failed unclosed, which the garbage collector then tries to close
    # from whatever thread it runs in, where there is no event loop.
    connection = aio_pika.Connection(aio_pika.connection.make_url(url))
    try:
        await connection.connect(timeout=timeout)
    except BaseException as error:
        await connection.close()
        if isinstance(error, InvalidFrameError):
            raise in_words(error, url) from error
        raise
    return connection


async def is_connected(broker: RabbitBroker) -> bool:
    """Whether RabbitMQ is there now; a broker that was never connected is not."""
    # Not the ping's own timeout: it also ends when the processor was elsewhere for so long, before anything was asked.
    asking = asyncio.ensure_future(broker.ping(None))
    try:
        done, _ = await asyncio.wait({asking}, timeout=AT_ONCE)
    finally:
        asking.cancel()
    return bool(done) and asking.result()


async def is_blocked(broker: RabbitBroker) -> bool:
    """Whether RabbitMQ has said that it takes no messages for now; false too while it is away."""
    connection = await broker.connect()
    transport = connection.transport
    if transport is None or not connection.connected.is_set():
        return False
    try:
        async with asyncio.timeout(AT_ONCE):
            await transport.ready()
    except TimeoutError:
        return True
    return False


async def answered(broker: RabbitBroker) -> bool:
    """Wait until RabbitMQ has answered; false if it went away. A frozen one keeps its connections for minutes."""
    try:
        async with aio_pika.Channel(await broker.connect(), publisher_confirms=False):  # which would be asked for, too
            return True
    except (*CONNECTION_EXCEPTIONS, asyncio.CancelledError):  # by the driver, when the connection is lost meanwhile
        return False


async def reopen_channels(broker: RabbitBroker) -> None:
    """Open again what RabbitMQ has closed: the driver tries that once, and if it is refused never again.

    Nothing is sent or heard there until then, though the connection stands. Raises one of CONNECTION_EXCEPTIONS, or
    AMQPChannelError.
    """
    for kind in {None, *(getattr(subscriber, "channel", None) for subscriber in broker.subscribers)}:
        channel = await broker.config.channel_manager.get_channel(kind)
        await channel.restore()


def forget_closed_channels() -> None:
    """Let nothing of a channel that is closed stay behind, as it would until the connection ends: 5 kB of each.

    The driver takes its callback off the connection's `closing`, another future each time that it is asked for.
    Health opens a channel for each probe and scrape, so a replica would grow by 100 MB a day.
    """
    UnderlayChannel.create = classmethod(_open)  # type: ignore[method-assign, assignment, arg-type]
    UnderlayChannel.close = _close  # type: ignore[method-assign, assignment]


async def _open(
    kind: type[UnderlayChannel], connection: UnderConnection, close_callback: Callable[..., Awaitable[Any]], **how: Any
) -> UnderlayChannel:
    """As the driver's own, but what watches the connection ends with the channel."""
    closed = OneShotCallback(close_callback)
    await connection.ready()
    lost = connection.closing
    lost.add_done_callback(closed)
    try:
        channel = await connection.channel(**how)
    except BaseException:
        lost.remove_done_callback(closed)
        lost.cancel()
        raise
    ended = channel.closing
    ended.add_done_callback(closed)
    ended.add_done_callback(lambda _: lost.cancel())  # after `closed`, which is called once only
    return kind(channel=channel, close_callback=closed)


async def _close(underlay: UnderlayChannel, exc: Any = None) -> None:
    if not underlay.close_callback.finished.is_set():
        await underlay.channel.close(exc)
        await underlay.close_callback.wait()


def read_leniently() -> None:
    """Let the driver read every message, whatever its properties hold; what cannot be read of them is left out.

    It would close the connection instead, and RabbitMQ deliver the message anew: to every replica, again and again, so
    that none heard or said anything any more. A timestamp in microseconds is enough.
    """
    decode.METHODS.update(shortstr=_short_text, timestamp=_moment, table=_table)
    decode.TABLE_MAPPING.update({b"T": _moment, b"F": _table})


def _short_text(raw: bytes) -> tuple[int, str]:
    try:
        return decode.short_str(raw)
    except UnicodeDecodeError:
        return 1 + raw[0], raw[1 : 1 + raw[0]].decode(errors="replace")


def _moment(raw: bytes) -> tuple[int, datetime | None]:
    try:
        return decode.timestamp(raw)
    except (ValueError, OverflowError, OSError):  # after the year 9999
        return 8, None


def _table(raw: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return decode.field_table(raw)
    except (ValueError, RecursionError):
        return 4 + int.from_bytes(raw[:4]), {}
