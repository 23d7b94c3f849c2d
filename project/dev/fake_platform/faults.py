"""Faults between an external service and its caller.

Some faults come before the service acts (status, hang, reset), some after it (lost_answer, and those that corrupt the
answer): a command whose answer is lost or corrupted has been carried out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dev.fake_platform.call import JSON_HEADER, Answer, Call

Behaviour = Callable[[Call, asyncio.Event], Awaitable[None]]


async def plain(call: Call, cleared: asyncio.Event) -> None:
    """No fault."""
    await call.answer(await call.handle())


@dataclass(frozen=True)
class Fault:
    """A fault of one call; `behave(call, cleared)` handles the call."""

    name: str
    behave: Behaviour

    @staticmethod
    def status(status: int) -> Fault:
        """Answer with this status; the service does not act."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            body = json.dumps({"detail": "injected fault"}).encode()
            await call.answer(Answer(status, [JSON_HEADER], body))

        return Fault(f"status {status}", behave)

    @staticmethod
    def hang() -> Fault:
        """Keep the caller waiting until the fault is cleared (then act and answer) or the caller leaves."""
        return _late("hang", lambda cleared: cleared.wait())

    @staticmethod
    def slow(seconds: float) -> Fault:
        """Wait so many real seconds, then act and answer, unless the caller left before."""
        return _late("slow", lambda cleared: asyncio.sleep(seconds))

    @staticmethod
    def preceded(change: Callable[[str], object]) -> Fault:
        """Let something change right before the service acts; `change` is given the path that is called."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            change(call.scope["path"])
            await plain(call, cleared)

        return Fault("preceded", behave)

    @staticmethod
    def reset() -> Fault:
        """Drop the connection before the service acts."""
        return Fault("reset", lambda call, cleared: call.reset())

    @staticmethod
    def lost_answer() -> Fault:
        """Let the service act, then drop the connection."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            await call.handle()
            await call.reset()

        return Fault("lost_answer", behave)

    @staticmethod
    def truncated() -> Fault:
        """Let the service act, announce its whole answer and send half of it."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            await call.answer_half(await call.handle())

        return Fault("truncated", behave)

    @staticmethod
    def garbage(body: bytes = b"<html>\x00\xff not what you expect") -> Fault:
        """Let the service act, but send these bytes in place of its answer's body."""
        return _corrupted("garbage", lambda answer: answer.with_body(body))

    @staticmethod
    def empty() -> Fault:
        """Let the service act, but send its answer without the body."""
        return _corrupted("empty", lambda answer: answer.with_body(b""))

    @staticmethod
    def json(value: object) -> Fault:
        """Let the service act, but send this value as JSON in place of its answer's body."""
        return _corrupted("json", lambda answer: answer.with_body(json.dumps(value).encode()))

    @staticmethod
    def rewrite(change: Callable[[str], str]) -> Fault:
        """Let the service act, and change the text of its answer's body."""
        return _corrupted("rewrite", lambda answer: answer.with_body(change(answer.body.decode()).encode()))


def _late(name: str, wait: Callable[[asyncio.Event], Awaitable[object]]) -> Fault:
    async def behave(call: Call, cleared: asyncio.Event) -> None:
        if await call.stays(wait(cleared)):
            await plain(call, cleared)

    return Fault(name, behave)


def _corrupted(name: str, change: Callable[[Answer], Answer]) -> Fault:
    async def behave(call: Call, cleared: asyncio.Event) -> None:
        await call.answer(change(await call.handle()))

    return Fault(name, behave)
