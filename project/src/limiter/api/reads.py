"""Reads for pages that must answer whatever hangs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Found = TypeVar("Found")


class Reads:
    """Reads that may hang: one of a name at a time, and nobody waits for it longer than he has patience."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def of(self, name: str, read: Callable[[], Awaitable[Found]], patience: float, late: Found) -> Found:
        """What it reads, or `late`; then it goes on, and whoever asks next waits for the same read."""
        running = self._running.get(name)
        if running is None or running.done():
            running = self._running[name] = asyncio.ensure_future(read())
        done, _ = await asyncio.wait({running}, timeout=patience)
        if not done:
            return late
        if self._running.get(name) is running:
            del self._running[name]
        result: Found = running.result()
        return result
