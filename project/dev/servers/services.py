"""Private Postgres, pgbouncer and RabbitMQ for the demo, the tests and the fault suites.

    with Services() as services:
        create_async_engine(services.database_url)
        services.postgres.stop("immediate")
        services.postgres.start()  # the same port, the same data

They listen on loopback only, on free ports, and keep everything in one temporary directory. However this process ends,
the servers end with it and the directory is removed. `python -m dev.servers` starts all three and waits for Ctrl-C.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.servers.postgres import PgBouncer, Postgres
from dev.servers.private_server import ServerFailed
from dev.servers.processes import ServerMissing
from dev.servers.rabbitmq import RabbitMQ

# Waits until its standard input is closed, by our `stop` or by our end, and then removes the directory. Servers that
# end together with us may still be writing, hence the second and third try.
REMOVER = """cat >/dev/null
for wait in 0 1 5; do
    sleep "$wait"
    if mountpoint --quiet "$1/postgres"; then umount --lazy "$1/postgres"; fi
    rm -rf -- "$1" && exit 0
done
exit 1"""

# A file system in memory takes 6 % off the time of a test that writes. Postgres keeps up to 1 GB of its log beside the
# data, and three processes of tests have one each; a container has 64 MB there, unless it is given more.
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp below makes the name safe
ROOM_IN_MEMORY = 4 * 2**30


def temporary_directory() -> Path:
    """A new directory that the servers' own accounts can enter too: in memory, if there is room and no TMPDIR."""
    in_memory = "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_IN_MEMORY
    place = (MEMORY if in_memory else Path(tempfile.gettempdir())).resolve()
    reachable = all(path.stat().st_mode & 0o001 for path in (place, *place.parents))
    if os.geteuid() == 0 and not reachable:
        place = Path("/var/tmp")  # noqa: S108 - a private TMPDIR of root's; mkdtemp below makes the name safe
    directory = Path(tempfile.mkdtemp(prefix="rps-limiter-", dir=place))
    directory.chmod(0o711)
    return directory


class Services:
    """All three servers: started once and stopped once together, and each by itself as often as needed."""

    def __init__(self, disk_megabytes: int = 0) -> None:
        """Find the programs and make the directory; raises ServerMissing, which says what to install.

        With `disk_megabytes` Postgres has a disk of its own of that size, where we may mount one.
        """
        self.directory = temporary_directory()
        self._remover = subprocess.Popen(
            ["/bin/sh", "-c", REMOVER, "remover", self.directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal must not end it before its work is done
        )
        try:
            self.postgres = Postgres(self.directory)
            self.pgbouncer = PgBouncer(self.directory, self.postgres)
            self.rabbitmq = RabbitMQ(self.directory)
        except ServerMissing:
            self._remove_directory()
            raise
        if disk_megabytes:
            self.postgres.limit_disk(disk_megabytes)
        atexit.register(self.stop)

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL through pgbouncer."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.pgbouncer.port}/postgres"

    @property
    def direct_database_url(self) -> str:
        """SQLAlchemy URL straight to Postgres."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.postgres.port}/postgres"

    @property
    def rabbitmq_url(self) -> str:
        """AMQP URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.rabbitmq.port}/"

    def environment(self) -> dict[str, str]:
        """The three URLs as the environment variables of a replica."""
        return {
            "DATABASE_URL": self.database_url,
            "MIGRATIONS_DATABASE_URL": self.direct_database_url,
            "RABBITMQ_URL": self.rabbitmq_url,
        }

    def start(self) -> None:
        """Start all three and return when they answer, which takes about as long as RabbitMQ alone.

        Raises ServerFailed if one does not start; the others are stopped then.
        """
        try:
            self.rabbitmq.launch()
            self.postgres.start()
            self.pgbouncer.start()
            self.rabbitmq.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all three and remove their directory; its data is not needed, so no server gets time to save it."""
        for server in (self.pgbouncer, self.rabbitmq, self.postgres):
            server.stop("immediate")
        self._remove_directory()
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _remove_directory(self) -> None:
        if self._remover.stdin is not None:
            self._remover.stdin.close()
        if self._remover.wait() != 0:
            raise ServerFailed(f"could not remove {self.directory}")
