"""The proxy whose connections can be cut: silent while they are, and what comes through after they were healed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from dev.chaos.tcp_proxy import TcpProxy


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """A proxy to a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, TcpProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def answered(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through the proxy that has been answered once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    return reader, writer


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.3):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize("resume", [True, False])
async def test_what_was_kept_back_comes_through_or_never(proxy: TcpProxy, *, resume: bool) -> None:
    reader, writer = await answered(proxy)
    proxy.cut()
    writer.write(b"two")
    assert await is_silent(reader)
    proxy.heal(resume=resume)
    if resume:
        assert await reader.readexactly(3) == b"two"
    else:
        assert await is_silent(reader)
    _, other = await answered(proxy)
    other.close()
    writer.close()


async def test_a_new_connection_is_taken_and_not_answered_while_it_is_cut(proxy: TcpProxy) -> None:
    proxy.cut()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one")
    assert await is_silent(reader)
    proxy.heal(resume=True)
    assert await reader.readexactly(3) == b"one"
    writer.close()


async def test_leaving_it_ends_every_connection_through_it(proxy: TcpProxy) -> None:
    reader, writer = await answered(proxy)
    proxy.cut()
    waiting, unanswered = await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.__aexit__(None, None, None)
    async with asyncio.timeout(5):
        for end in (reader, waiting):
            with suppress(ConnectionResetError):
                assert await end.read(1) == b""
    writer.close()
    unanswered.close()
