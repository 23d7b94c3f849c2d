"""Replicas as real processes: `python project/src/main.py`, as a deployment starts them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from dev.servers.processes import free_port
from limiter.domain.job import Job
from tests.conftest import ROOT

# Seconds; at half of that, replicas on a machine that is busy with other tests miss intervals.
FAST = {f"{job}_INTERVAL_SECONDS".upper(): 1.0 for job in Job}


class Replica:
    """One process, its health page and its log."""

    def __init__(self, variables: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.log = log
        secrets = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "project/src/main.py")],
                env=secrets | variables | {"HTTP_PORT": str(self.port), "HTTP_HOST": "127.0.0.1"},
                stderr=sink,
                stdout=sink,
            )

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(verify=False) as client:  # noqa: S501 - certificates take 20 ms to load
            return await client.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    async def until(
        self, condition: Callable[[httpx.Response], bool], path: str = "/health/readiness"
    ) -> httpx.Response:
        """Wait until the page at `path` is as wished."""
        async with asyncio.timeout(60):
            while True:
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                try:
                    answer = await self.get(path)
                    if condition(answer):
                        return answer
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    async def ready(self) -> None:
        await self.until(lambda answer: answer.status_code == 200)

    async def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 30)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@asynccontextmanager
async def replicas(count: int, variables: dict[str, str], directory: Path) -> AsyncIterator[list[Replica]]:
    running = [Replica(variables, directory / f"replica{number}.log") for number in range(count)]
    try:
        yield running
    finally:
        for replica in running:
            if replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()
