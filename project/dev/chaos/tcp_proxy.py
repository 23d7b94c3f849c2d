"""A TCP proxy that can be cut: it goes silent, as a firewall that drops packets does."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 65_536


class TcpProxy:
    """Relays connections to a port of this machine; while cut, nothing gets through and neither side notices."""

    def __init__(self, to_port: int) -> None:
        """`to_port` is where connections are relayed to; `port`, known once entered, is where to connect instead."""
        self.port = 0
        self._to_port = to_port
        self._open = asyncio.Event()
        self._open.set()
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def cut(self) -> None:
        """Let nothing through from now on: no bytes, no end of a connection, no new connections."""
        self._open.clear()

    def heal(self, *, resume: bool) -> None:
        """Let new connections through; the old ones deliver what was kept back if they `resume`, else stay silent."""
        if not resume:
            self._open = asyncio.Event()
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        try:
            await self._relay(reader, writer, self._open)
        except asyncio.CancelledError:
            pass  # only `__aexit__` cancels it; asyncio would report a cancelled handler as an error
        finally:
            self._relays.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
        sides = [writer]
        try:
            await is_open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            sides.append(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, far_writer, is_open))
                both.create_task(_pump(far_reader, writer, is_open))
        except* OSError:
            pass  # a side that breaks ends both, as without a proxy
        finally:
            for side in sides:
                side.transport.abort()
                with suppress(OSError):
                    await side.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
    while True:
        data = await reader.read(CHUNK)
        await is_open.wait()
        if not data:
            return writer.close()
        writer.write(data)
        await writer.drain()
