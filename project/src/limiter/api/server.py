"""The HTTP server of one replica."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from limiter.api.health import Health
from limiter.api.http import http_app

WAITING = 64  # connections that may wait; without a file descriptor left asyncio tries, and logs, each once a second


class CannotListen(Exception):
    """Nothing can be served where it should be; the text names the variables, their values and the rule."""


class Server(uvicorn.Server):
    """Uvicorn, leaving the signals to us: the jobs must end before it does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; raises CannotListen."""
        try:
            await super().startup(sockets)
        except SystemExit as error:  # uvicorn's way to say so, by which nothing else would come to an orderly end
            raise CannotListen(self._problem(error.__context__)) from None
        except UnicodeError as error:
            raise CannotListen(self._problem(error)) from None

    def _problem(self, error: BaseException | None) -> str:
        where = f"HTTP_HOST={self.config.host!r}, HTTP_PORT={self.config.port}"
        return f"{where}: must be an address of this machine and a port that is free: {error}"


def http_server(health: Health, host: str, port: int) -> Server:
    """What serves the replica's application; it ends soon after `should_exit` is set."""
    config = uvicorn.Config(
        http_app(health),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        backlog=WAITING,
        lifespan="off",
    )
    return Server(config)
