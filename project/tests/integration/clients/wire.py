"""What the platform's faults cannot do: raw bytes on a socket, the raw requests, and edited answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from dev.fake_platform.call import Call
from dev.fake_platform.faults import plain
from dev.fake_platform.platform import Exchange, Fault, Platform
from limiter.telemetry import Telemetry

Answer = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class RawServer:
    """Where it listens, and the heads of the requests it got."""

    url: str = ""
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def raw_server(answer: Answer) -> AsyncIterator[RawServer]:
    """A server that answers every request with whatever bytes `answer` writes, and closes."""
    served = RawServer()

    handling: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.extend(filter(None, [asyncio.current_task()]))
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            served.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await _until_either(answer(writer), reader.read(1))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield served
        await asyncio.gather(*handling)


async def _until_either(answering: Coroutine[Any, Any, None], leaving: Coroutine[Any, Any, bytes]) -> None:
    """Until the answer is out, or the caller has left."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(answering), asyncio.create_task(leaving)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def says(body: bytes, status: str = "200 OK", headers: str = "") -> Answer:
    """A whole answer."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


def drips(head: bytes, drop: bytes, seconds: float) -> Answer:
    """The head at once, then a drop every so many seconds, until the caller leaves."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            await writer.drain()
            await asyncio.sleep(seconds)
            writer.write(drop)

    return answer


def edited(change: Callable[[Any], Any]) -> Fault:
    """The service's JSON answer after `change`, which edits it in place or returns another."""

    def rewrite(text: str) -> str:
        body = json.loads(text)
        other = change(body)
        return json.dumps(body if other is None else other)

    return Fault.rewrite(rewrite)


@dataclass
class Crowd:
    """Counts how many calls are under way together; `fault` delays each so that they can meet."""

    now: int = 0
    peak: int = 0

    def fault(self, seconds: float = 0.03) -> Fault:
        async def behave(call: Call, cleared: asyncio.Event) -> None:
            self.now += 1
            self.peak = max(self.peak, self.now)
            await asyncio.sleep(seconds)
            self.now -= 1
            await plain(call, cleared)

        return Fault("crowd", behave)


def counted(telemetry: Telemetry, metric: str, **labels: str) -> float:
    """One of the limiter's own metrics; 0 if it was never counted."""
    return telemetry.registry.get_sample_value(f"rps_limiter_{metric}", labels) or 0.0


async def history(platform: Platform) -> list[Exchange]:
    """Every request so far; one that the caller gave up enters the platform's history a moment late."""
    while _is_answering():  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.005)
    return platform.history


async def arrived() -> None:
    """Wait until a request has come to the platform, which has not answered yet."""
    async with asyncio.timeout(10):
        while not _is_answering():  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.005)


def _is_answering() -> bool:
    return any("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks())
