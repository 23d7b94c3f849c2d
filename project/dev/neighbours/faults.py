"""What can go wrong between a neighbour and its caller.

Some faults come before the neighbour acts (status, hang, reset), some after it (lost_answer and those that spoil the
answer): a command whose answer is lost or spoilt has been carried out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dev.neighbours.call import JSON_HEADER, Answer, Call

Behaviour = Callable[[Call, asyncio.Event], Awaitable[None]]


async def plain(call: Call, cleared: asyncio.Event) -> None:
    """No fault."""
    await call.answer(await call.handle())


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a call; `behave(call, cleared)` carries the call through."""

    name: str
    behave: Behaviour

    @staticmethod
    def status(status: int) -> Fault:
        """Answer with this status; the neighbour does not act."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            body = json.dumps({"detail": "injected fault"}).encode()
            await call.answer(Answer(status, [JSON_HEADER], body))

        return Fault(f"status {status}", behave)

    @staticmethod
    def hang() -> Fault:
        """Keep the caller waiting until the fault is cleared (then act and answer) or the caller gives up."""
        return _late("hang", lambda cleared: cleared.wait())

    @staticmethod
    def slow(seconds: float) -> Fault:
        """Wait so many real seconds, then act and answer, unless the caller gave up before."""
        return _late("slow", lambda cleared: asyncio.sleep(seconds))

    @staticmethod
    def reset() -> Fault:
        """Drop the connection before the neighbour acts."""
        return Fault("reset", lambda call, cleared: call.reset())

    @staticmethod
    def lost_answer() -> Fault:
        """Let the neighbour act, then drop the connection."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            await call.handle()
            await call.reset()

        return Fault("lost_answer", behave)

    @staticmethod
    def truncated() -> Fault:
        """Let the neighbour act, announce its whole answer and send half of it."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            await call.answer_half(await call.handle())

        return Fault("truncated", behave)

    @staticmethod
    def garbage(body: bytes = b"<html>\x00\xff not what you expect") -> Fault:
        """Let the neighbour act, but send these bytes in place of its answer's body."""
        return _spoilt("garbage", lambda answer: answer.with_body(body))

    @staticmethod
    def empty() -> Fault:
        """Let the neighbour act, but send its answer without the body."""
        return _spoilt("empty", lambda answer: answer.with_body(b""))

    @staticmethod
    def json(value: object) -> Fault:
        """Let the neighbour act, but send this value as JSON in place of its answer's body."""
        return _spoilt("json", lambda answer: answer.with_body(json.dumps(value).encode()))

    @staticmethod
    def rewrite(change: Callable[[str], str]) -> Fault:
        """Let the neighbour act, and change the text of its answer's body."""
        return _spoilt("rewrite", lambda answer: answer.with_body(change(answer.body.decode()).encode()))


def _late(name: str, wait: Callable[[asyncio.Event], Awaitable[object]]) -> Fault:
    async def behave(call: Call, cleared: asyncio.Event) -> None:
        if await call.stays(wait(cleared)):
            await plain(call, cleared)

    return Fault(name, behave)


def _spoilt(name: str, change: Callable[[Answer], Answer]) -> Fault:
    async def behave(call: Call, cleared: asyncio.Event) -> None:
        await call.answer(change(await call.handle()))

    return Fault(name, behave)
