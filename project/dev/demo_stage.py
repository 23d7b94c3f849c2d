"""What the demo runs on: private servers, migrations, two replicas, and the notifier's end of the wire."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx

from dev.demo_story import NAMES
from dev.processes import as_account, free_port
from dev.services import Services

ROOT = Path(__file__).parents[2]
DEPLOYED, NO_USE = "models.deployed.successfully", "reservation.no_use"
STOP_PATIENCE = 30.0  # seconds that a replica may take to stop
LOG_TAIL = 15  # lines of a dead replica's log that are shown


class DemoFailed(Exception):
    """The demo cannot go on; the text says why."""


class Replica:
    """One replica as a process of its own; its log goes to a file."""

    def __init__(self, name: str, variables: dict[str, str], directory: Path, clock_off: float = 0) -> None:
        """`clock_off` is how many seconds its clock is fast."""
        self.name = name
        self.port = free_port()
        self.log = directory / f"{name}.log"
        self.health = "starting"
        self._read = 0
        plain = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        program = [str(ROOT / "project/src/main.py")]
        if clock_off:
            # freezegun's types look too small to asyncpg's compiled code, which says so and goes on.
            plain["PYTHONPATH"] = f"{ROOT / 'project/src'}:{ROOT / 'project'}"
            program = ["-W", "ignore:datetime:RuntimeWarning", "-m", "dev.skewed", str(clock_off)]
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                as_account(None, signal.SIGKILL, [sys.executable, *program]),
                env=plain | variables | {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(self.port)},
                stdout=sink,
                stderr=sink,
            )

    async def check(self, client: httpx.AsyncClient) -> None:
        """Ask for readiness; raises DemoFailed if the process has ended."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text().splitlines()[-LOG_TAIL:])
            raise DemoFailed(f"{self.name} ended with code {self.process.returncode}:\n{tail}")
        try:
            answer = await client.get(f"http://127.0.0.1:{self.port}/health/readiness", timeout=2)
            self.health = "ready" if answer.status_code == 200 else "not ready"
        except httpx.HTTPError:
            self.health = "starting"

    async def is_ready(self) -> bool:
        """Whether it says so."""
        async with httpx.AsyncClient() as client:
            await self.check(client)
        return self.health == "ready"

    def fresh_lines(self) -> list[dict[str, Any]]:
        """The log's new lines since it was last read."""
        text = self.log.read_bytes()[self._read :]
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self.process.wait, STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return await asyncio.to_thread(self.process.wait)


@asynccontextmanager
async def servers() -> AsyncIterator[Services]:
    """The private servers, started and stopped without blocking the loop."""
    services = Services()
    await asyncio.to_thread(services.start)
    try:
        yield services
    finally:
        await asyncio.to_thread(services.stop)


async def migrate(variables: dict[str, str]) -> None:
    """`alembic upgrade head`, as an operator runs it."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailed(f"alembic upgrade head failed:\n{done.stderr}")


@asynccontextmanager
async def notifier(url: str, exchange_name: str) -> AsyncIterator["Notifier"]:
    """The Notificator: it announces deployed models, and hears our events."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(exchange_name, aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("notificator", durable=True)
        await queue.bind(exchange, NO_USE)
        yield Notifier(queue, exchange)


class Notifier:
    """Reads the events from its own durable queue."""

    def __init__(self, queue: aio_pika.abc.AbstractQueue, exchange: aio_pika.abc.AbstractExchange) -> None:
        self._queue = queue
        self._exchange = exchange

    async def heard(self) -> list[dict[str, Any]]:
        """The events that have come since it was last asked."""
        found = []
        while (message := await self._queue.get(fail=False)) is not None:
            await message.ack()
            found.append(json.loads(message.body))
        return found

    async def announce(self, user: UUID) -> None:
        """Publish the platform's event from which the limiter learns the user's address."""
        name = NAMES[user]
        body = {"user_id": str(user), "user_name": name, "user_email": f"{name}@example.org"}
        lists: dict[str, list[str]] = {"model_ids": [], "model_names": [], "reservation_ids": []}
        await self._exchange.publish(aio_pika.Message(json.dumps(body | lists).encode()), DEPLOYED)
