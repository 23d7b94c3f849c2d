"""The HTTP server of one replica."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from limiter.api.health import Health
from limiter.api.http import http_app


class Server(uvicorn.Server):
    """Uvicorn, leaving the signals to us: the jobs must end before it does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(health: Health, host: str, port: int) -> Server:
    """What serves the replica's application; it ends soon after `should_exit` is set."""
    config = uvicorn.Config(
        http_app(health),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    return Server(config)
