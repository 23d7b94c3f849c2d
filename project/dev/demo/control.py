"""Sends control messages while the demo goes on."""

import asyncio

import aio_pika

from limiter.ctl.asking import ask

QUEUE = "rps_limiter.control"
TIMEOUT = 30.0  # seconds to wait for a reply


class Control:
    """Sends each message as `python -m limiter.ctl` does, and keeps the replies."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asking: set[asyncio.Task[None]] = set()
        self._replies: list[str] = []

    def send(self, request: dict[str, str]) -> None:
        """Send it; its reply comes later."""
        task = asyncio.create_task(self._ask(request))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def replies(self) -> list[str]:
        """What the replies since the last call say."""
        found, self._replies = self._replies, []
        return found

    async def _ask(self, request: dict[str, str]) -> None:
        try:
            reply = await ask(self._url, QUEUE, request, TIMEOUT)
            self._replies.append(f"{reply['outcome']}: {reply['detail']}")
        except (TimeoutError, OSError, aio_pika.exceptions.AMQPError) as error:
            self._replies.append(f"no reply: {type(error).__name__} {error}")
