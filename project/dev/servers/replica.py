"""Replicas of the service as processes of their own, and the servers and migrations they need."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from dev.servers.processes import as_account, free_port
from dev.servers.services import Services

ROOT = Path(__file__).parents[3]
STOP_TIMEOUT_SECONDS = 30.0  # a replica that has not stopped by then is killed
PIPE_BYTES = 4096
SHORTEST_LINE = 100  # bytes of a line of the log
PATIENCE_SECONDS = 120.0  # to wait for what a replica is to say of itself, whatever else breaks meanwhile
LOG_TAIL = 15  # lines of a dead replica's log that are shown


class ReplicaFailed(Exception):
    """A replica has ended, or its migrations failed; the text shows the end of the log."""


class Replica:
    """One replica as a process of its own; its log goes to a file."""

    def __init__(
        self,
        name: str,
        variables: dict[str, str],
        directory: Path,
        *,
        clock_off: float | None = None,
        unread: bool = False,
        root: Path = ROOT,
    ) -> None:
        """Start the code at `root` with these environment variables.

        With `clock_off` its clock is fast by so many seconds, and can be set; `unread` is a log that nobody reads.
        """
        self.name = name
        self.port = free_port()
        self.log = directory / f"{name}.log"
        self.health = "starting"
        self._read = 0
        self._copying: threading.Thread | None = None
        plain = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
        program = [str(root / "project/src/main.py")]
        if clock_off is not None:
            # asyncpg's compiled code warns that freezegun's types have another size than datetime's, and goes on.
            plain["PYTHONPATH"] = _modules(root)
            program = ["-W", "ignore:datetime:RuntimeWarning", "-m", "dev.chaos.skewed_replica", str(clock_off)]
        with self.log.open("wb") if not unread else self._pipe() as sink:
            self.process = subprocess.Popen(
                as_account(None, signal.SIGKILL, [sys.executable, *program]),
                env=plain | variables | {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(self.port)},
                stdout=sink,
                stderr=sink,
            )

    def _pipe(self) -> BinaryIO:
        """The end to write to of a pipe that is soon full."""
        self._unread, end = os.pipe()
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return os.fdopen(end, "wb")

    async def fill_log(self) -> None:
        """Have it log more than the pipe takes, also where it runs nothing: a line for each request that is no HTTP."""
        await self.until(lambda _: True)  # it listens
        for _ in range(PIPE_BYTES // SHORTEST_LINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"no HTTP\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()

    def read_log(self) -> None:
        """From now on somebody reads the log that was unread."""
        self._copying = threading.Thread(target=self._copy_log, daemon=True)
        self._copying.start()

    def _copy_log(self) -> None:
        with os.fdopen(self._unread, "rb") as end, self.log.open("wb", buffering=0) as log:
            shutil.copyfileobj(end, log)

    def set_clock(self, seconds: float) -> None:
        """Set the clock of a replica with `clock_off` an hour forward, or back."""
        self.process.send_signal(signal.SIGUSR1 if seconds > 0 else signal.SIGUSR2)

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until what its readiness says is so; raises TimeoutError, with what it says."""
        page: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient() as client:
                while not (page and condition(page)):
                    with suppress(httpx.HTTPError):
                        page = (await client.get(f"http://127.0.0.1:{self.port}/health/readiness", timeout=5)).json()
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{self.name} still says {page}") from error

    async def check(self, client: httpx.AsyncClient) -> None:
        """Set `health` from its readiness; raises ReplicaFailed if the process has ended."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text().splitlines()[-LOG_TAIL:])
            raise ReplicaFailed(f"{self.name} ended with code {self.process.returncode}:\n{tail}")
        try:
            answer = await client.get(f"http://127.0.0.1:{self.port}/health/readiness", timeout=2)
            self.health = "ready" if answer.status_code == 200 else "not ready"
        except httpx.HTTPError:
            self.health = "starting"

    async def is_ready(self) -> bool:
        """Whether its readiness answers 200; raises ReplicaFailed if the process has ended."""
        async with httpx.AsyncClient() as client:
            await self.check(client)
        return self.health == "ready"

    def fresh_lines(self) -> list[dict[str, Any]]:
        """The log's JSON lines since the last call."""
        text = self.log.read_bytes()[self._read :]
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]

    async def stop(self) -> int:
        """Send SIGTERM, after `STOP_TIMEOUT_SECONDS` SIGKILL; returns the exit code, once all of its log is written."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self.process.wait, STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = await asyncio.to_thread(self.process.wait)
        if self._copying is not None:
            await asyncio.to_thread(self._copying.join)
        return code


@asynccontextmanager
async def servers(disk_megabytes: int = 0) -> AsyncIterator[Services]:
    """The private servers, started and stopped without blocking the event loop."""
    services = Services(disk_megabytes)
    await asyncio.to_thread(services.start)
    try:
        yield services
    finally:
        await asyncio.to_thread(services.stop)


@contextmanager
def work_tree(commit: str) -> Iterator[Path]:
    """The commit in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def _modules(root: Path) -> str:
    return f"{root / 'project/src'}:{root / 'project'}"


async def migrate(variables: dict[str, str], root: Path = ROOT) -> None:
    """Run `alembic upgrade head` as an operator does, of the code at `root`; raises ReplicaFailed with its errors."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=root,
        env=os.environ | variables | {"PYTHONPATH": _modules(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ReplicaFailed(f"alembic upgrade head failed:\n{done.stderr}")
