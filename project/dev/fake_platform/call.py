"""One request on its way to an external service, and what can be done with it at the wire."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

JSON_HEADER = (b"content-type", b"application/json")
BODILESS = (204, 304)
# A caller may leave just before a wait ends, while its close is still in the socket: wait so long for it to be noticed.
NOTICE_SECONDS = 0.02
# Linger on, zero seconds: closing sends a TCP reset, not an orderly end.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Answer:
    """What a service answers."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def with_body(self, body: bytes) -> Answer:
        """The same answer with another body."""
        return replace(self, body=body)


class Call:
    """One request, and what a fault can do with it."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, protocol: H11Protocol) -> None:
        """The ASGI call and the connection on which it came."""
        self.scope = scope
        self.body = b""
        self.handled: int | None = None
        self.status: int | None = None
        self._app = app
        self._receive = receive
        self._send = send
        self._protocol = protocol

    async def read(self) -> bool:
        """Read the whole body; false if the caller left before it was complete."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return False
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                return True

    async def handle(self) -> Answer:
        """Let the service act, and return its answer unsent."""
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": self.body, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        await self._app(self.scope, receive, send)
        self.handled = messages[0]["status"]
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return Answer(messages[0]["status"], list(messages[0]["headers"]), body)

    async def answer(self, answer: Answer) -> None:
        """Send the whole answer."""
        body = b"" if answer.status in BODILESS else answer.body
        await self._start(answer, len(body))
        await self._send({"type": "http.response.body", "body": body})

    async def answer_half(self, answer: Answer) -> None:
        """Announce the length of the whole body, send half of it and close."""
        if len(answer.body) < 2:
            await self.reset()
            return
        await self._start(answer, len(answer.body))
        half = answer.body[: len(answer.body) // 2]
        await self._send({"type": "http.response.body", "body": half, "more_body": True})
        self._protocol.transport.close()
        await self.left()

    async def reset(self) -> None:
        """Drop the TCP connection without an answer."""
        transport = self._protocol.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()
        await self.left()

    async def left(self) -> None:
        """Return when the connection is closed."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def stays(self, until: Awaitable[object]) -> bool:
        """Wait for something; false as soon as the caller has left."""
        waiting, left = asyncio.ensure_future(until), asyncio.ensure_future(self.left())
        try:
            await asyncio.wait({waiting, left}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({left}, timeout=NOTICE_SECONDS)
            return not left.done()
        finally:
            waiting.cancel()
            left.cancel()

    async def _start(self, answer: Answer, length: int) -> None:
        headers = [header for header in answer.headers if header[0] != b"content-length"]
        if answer.status not in BODILESS:
            headers.append((b"content-length", str(length).encode()))
        self.status = answer.status
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
