"""The link that can be cut: silent while it is, and what comes through after it was healed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from dev.link import Link


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """A link to a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Link(server.sockets[0].getsockname()[1]) as link:
        yield link


async def said(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through the link that has been answered once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
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
async def test_what_was_held_back_comes_through_or_never(link: Link, *, resume: bool) -> None:
    reader, writer = await said(link)
    link.cut()
    writer.write(b"two")
    assert await is_silent(reader)
    link.heal(resume=resume)
    if resume:
        assert await reader.readexactly(3) == b"two"
    else:
        assert await is_silent(reader)
    _, other = await said(link)
    other.close()
    writer.close()


async def test_a_new_connection_is_taken_and_not_answered_while_it_is_cut(link: Link) -> None:
    link.cut()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"one")
    assert await is_silent(reader)
    link.heal(resume=True)
    assert await reader.readexactly(3) == b"one"
    writer.close()


async def test_leaving_it_ends_every_connection_through_it(link: Link) -> None:
    reader, writer = await said(link)
    link.cut()
    waiting, unanswered = await asyncio.open_connection("127.0.0.1", link.port)
    await link.__aexit__(None, None, None)
    async with asyncio.timeout(5):
        for end in (reader, waiting):
            with suppress(ConnectionResetError):
                assert await end.read(1) == b""
    writer.close()
    unanswered.close()
