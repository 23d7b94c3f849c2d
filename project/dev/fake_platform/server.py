"""An HTTP server inside the caller's event loop, on a loopback port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator

from starlette.types import ASGIApp
from uvicorn import Config, Server


class GuestServer(Server):
    """A uvicorn without signal handlers, which would catch the Ctrl-C meant for the host program."""

    def __init__(self, config: Config) -> None:
        """`answers` is set once requests are answered; set `stopping` to stop it."""
        super().__init__(config)
        self.answers = asyncio.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set `answers`."""
        await super().startup(sockets)
        self.answers.set()

    async def main_loop(self) -> None:
        """Tick as ever, but stop at once: uvicorn looks every 0.1 s, which a thousand tests would wait for."""
        ticking, stopping = asyncio.create_task(super().main_loop()), asyncio.create_task(self.stopping.wait())
        await asyncio.wait((ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
        ticking.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and what is idle, let calls under way end for a second, then close every connection.

        Uvicorn does the same, in steps of 0.1 s.
        """
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := set(self.server_state.tasks):
            _, late = await asyncio.wait(tasks, timeout=self.config.timeout_graceful_shutdown)
            for task in late:
                task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class LoopbackServer:
    """A server that can be started and stopped repeatedly, and keeps its port once it has one."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Port 0 means any free one."""
        self._app = app
        self._host = host
        self._port = port
        self._server: GuestServer | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens; raises RuntimeError before the first start."""
        if not self._port:
            raise RuntimeError("the port is known only after the start")
        host = "127.0.0.1" if self._host == "0.0.0.0" else self._host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self._port}"

    async def start(self) -> Iterable[object]:
        """Listen; returns the live set of connections once requests are answered, raises OSError for a taken port."""
        if self._serving is not None:
            raise RuntimeError("started already")
        bound = socket.create_server((self._host, self._port))
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer in two writes waits
        # for the client's delayed acknowledgement: 40 ms on Linux.
        listener = socket.socket(bound.family, bound.type, socket.IPPROTO_TCP, fileno=bound.detach())
        self._port = listener.getsockname()[1]
        # No log configuration: logging is up to the host. h11, because faults act on its connections.
        config = Config(self._app, http="h11", ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        self._server = GuestServer(config)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        await self._server.answers.wait()
        return self._server.server_state.connections

    async def stop(self) -> None:
        """Close the port and every connection; does nothing if it does not run."""
        if self._server is None or self._serving is None:
            return
        self._server.stopping.set()
        await self._serving
        self._server = self._serving = None
