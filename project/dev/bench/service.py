"""The whole service, seen from outside: what a run costs on a platform of a given size."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import asyncpg
import httpx
from aio_pika.exceptions import DeliveryError

from dev.bench.large_platform import ENTRYPOINTS
from dev.servers.replica import Replica, ReplicaFailed, migrate
from dev.servers.services import Services

HERTZ = os.sysconf("SC_CLK_TCK")
NEVER = "100000"
SCHEMA, CONTROL_QUEUE = "bench", "rps_limiter.control"
BEFORE_ALL = "rps_check"  # until it has run nothing is known of any model, and no booking is judged by its time
LONGEST = 600.0  # seconds that one measurement may take


@dataclass
class Figures:
    """What was seen of one replica; seconds, megabytes, and of Postgres transactions and kilobytes of WAL, a run."""

    cold: float = 0.0
    cpu: float = 0.0
    run: float = 0.0
    memory: float = 0.0
    transactions: float = 0.0
    wal: float = 0.0
    stalls: list[float] = field(default_factory=list)


@contextmanager
def platform(models: int, bookings: int) -> Iterator[str]:
    """A platform as a process of its own; yields its URL."""
    program = [sys.executable, "-m", "dev.bench.large_platform", str(models), str(bookings)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def environment(services: Services, url: str, job: str, interval: float) -> dict[str, str]:
    """One job as often as `interval` says, every other hardly ever."""
    jobs = ("RPS_CHECK", "IDLE_WARNING", "IDLE_ENFORCE", "SAGA_POLL", "EVENT_DISPATCH", "CLEANUP")
    return {
        **services.environment(),
        **{f"{name}_INTERVAL_SECONDS": NEVER for name in jobs},
        f"{job}_INTERVAL_SECONDS": str(interval),
        # Its windows must be as long as its interval.
        **({} if job == "RPS_CHECK" else {f"SCALE_{way}_WINDOW_SECONDS": NEVER for way in ("UP", "DOWN")}),
        "DATABASE_SCHEMA": SCHEMA,
        "MODEL_REGISTRY_URL": url,
        "MODEL_DISPATCHER_URL": url,
        "BOOKING_SERVICE_URL": url,
        "ENTRYPOINT_METRICS_URLS": ",".join(f"{url}/metrics/{number}" for number in range(ENTRYPOINTS)),
        "USER_EMAIL_TEMPLATE": "{user_name}@example.org",
        "IDLE_LIMIT_SECONDS": "7200",
        "IDLE_WARNING_LEAD_SECONDS": "900",
        "HTTP_TIMEOUT_SECONDS": "60",
        "LOG_LEVEL": "WARNING",
    }


class Watched(Replica):
    """One replica, and what the system says of its process."""

    def cpu(self) -> float:
        """Processor seconds until now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ

    def peak(self) -> float:
        """The most memory it ever had, MB."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def number(self, series: str) -> float:
        """A series of its metrics page; 0 if it is not there."""
        page = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=60).text
        found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.M)
        return float(found[1]) if found else 0.0


async def worst_answer(replica: Watched, stop: asyncio.Event) -> float:
    """The longest that liveness took to answer until `stop`, in seconds; asked anew as soon as it has answered."""
    worst = 0.0
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    while not stop.is_set():
        began = time.perf_counter()
        writer.write(b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        await reader.readexactly(int(length[1]) if length else 0)
        worst = max(worst, time.perf_counter() - began)
        await asyncio.sleep(0.01)
    writer.close()
    return worst


async def measure(tree: Path, variables: dict[str, str], job: str, directory: Path, runs: int) -> Figures:
    """Start a replica of the code in `tree`, wait for its first run and `runs` more, and tell what one of them cost."""
    await migrate(variables, tree)
    replica, found = Watched("bench", variables, directory, root=tree), Figures()
    database = await asyncpg.connect(variables["MIGRATIONS_DATABASE_URL"].replace("+asyncpg", ""))
    seconds = f'rps_limiter_job_duration_seconds_sum{{job="{job}"}}'

    async def ran(times: int, of: str = job) -> int:
        """Wait until the job has run so many times; returns how often it has."""
        end = time.monotonic() + LONGEST
        while (count := int(await database.fetchval(ENDED, of))) < times:
            if replica.process.poll() is not None or time.monotonic() > end:
                raise ReplicaFailed(f"{count} of {times} runs:\n{replica.log.read_text()[-2000:]}")
            await asyncio.sleep(0.2)
        return count

    try:
        async with asyncio.timeout(LONGEST):
            while True:
                if await replica.is_ready():
                    break
                await asyncio.sleep(0.02)
        async with asked(replica, found):
            if job != BEFORE_ALL:
                await run_by_hand(variables["RABBITMQ_URL"], BEFORE_ALL)
                await ran(1, BEFORE_ALL)
            count = await ran(1)
        found.cold = replica.number(seconds)
        # Nobody asks for its health while its processor seconds are counted: a hundred answers a second cost as much.
        count = await ran(count + 2)
        cpu, spent = replica.cpu(), replica.number(seconds)
        before = await database.fetchrow(TOLD)
        done = await ran(count + runs) - count
        found.cpu, found.run = (replica.cpu() - cpu) / done, (replica.number(seconds) - spent) / done
        after = await database.fetchrow(TOLD)
        assert before is not None
        assert after is not None
        found.transactions = (after["transactions"] - before["transactions"]) / done
        found.wal = float(after["wal"] - before["wal"]) / 1024 / done
        found.memory = replica.peak()
        async with asked(replica, found):
            await ran(count + runs + 2)
    finally:
        await database.close()
        await replica.stop()
    return found


async def run_by_hand(url: str, job: str) -> None:
    """Have the replica run a job, as soon as it has its queue."""
    message = aio_pika.Message(json.dumps({"command": "run_job", "job": job}).encode())
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        while True:
            try:
                await channel.default_exchange.publish(message, CONTROL_QUEUE)
                return
            except DeliveryError:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def asked(replica: Watched, found: Figures) -> AsyncIterator[None]:
    """Meanwhile, keep asking whether it lives, and note the longest that it took to answer."""
    stop = asyncio.Event()
    answers = asyncio.create_task(worst_answer(replica, stop))
    try:
        yield
    finally:
        stop.set()
        found.stalls.append(await answers)


ENDED = f"SELECT count(*) FROM {SCHEMA}.job_run WHERE job = $1 AND state = 'completed'"  # noqa: S608 - our own name
TOLD = """SELECT xact_commit AS transactions, pg_current_wal_lsn() - '0/0' AS wal
    FROM pg_stat_database WHERE datname = current_database()"""
