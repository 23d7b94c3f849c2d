"""PostgreSQL, and pgbouncer in front of it, as private servers set up for tests: fast, loopback only."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from dev.servers.private_server import PrivateServer, ServerFailed, StopMode
from dev.servers.processes import account_for, as_account, find_program, own_directory, write_own


class Postgres(PrivateServer):
    """PostgreSQL; stop it "fast" (clients are cut off) or "immediate" (like a crash, recovers at the next start)."""

    name = "postgres"
    listening_text = "ready to accept connections"  # it exits before saying so when the port is taken
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
    death_signal = signal.SIGQUIT  # unlike SIGKILL it frees the shared memory

    # synchronous_commit stays on, so an immediate stop loses nothing that was committed; only a crash of the machine
    # would. Shared memory lies in the data directory, so that it is removed with it.
    settings: ClassVar[Mapping[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "fsync": "off",
        "full_page_writes": "off",
        "dynamic_shared_memory_type": "mmap",
    }

    def __init__(self, directory: Path) -> None:
        """Find the programs (`ServerMissing` if they are not installed); nothing is written before the start."""
        super().__init__(directory, account_for("postgres"))
        self.has_own_disk = False
        self.programs = find_program("postgresql", "/usr/lib/postgresql/*/bin/postgres").parent

    def limit_disk(self, megabytes: int) -> bool:
        """Give it a disk of its own of that size, in memory, before its first start; false without the right to mount.

        Whoever removes the directory has to unmount it first.
        """
        self.directory.mkdir(mode=0o700)
        size = f"size={megabytes}m,mode=0700"
        mount = ["mount", "--types", "tmpfs", "--options", size, "rps-limiter", str(self.directory)]
        self.has_own_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        return self.has_own_disk

    def fill_disk(self) -> Path:
        """Take what is left of its own disk; returns the file that does."""
        ballast = self.directory / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        return ballast

    def prepare(self) -> None:
        """Create the cluster at the first start."""
        own_directory(self.directory, self.account)
        if (self.directory / "PG_VERSION").exists():
            return
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        initdb = as_account(self.account, signal.SIGKILL, [self.programs / "initdb", "-D", self.directory, *options])
        done = subprocess.run(initdb, cwd=self.directory, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"initdb ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")

    def command(self) -> list[str | Path]:
        """The server in the foreground, its settings on the command line."""
        settings = {**self.settings, "port": str(self.port)}
        return [
            self.programs / "postgres",
            *("-D", self.directory),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]

    def back_up(self, to: Path) -> float:
        """Copy the data directory as it is at one moment, as a snapshot of its volume does; returns the moment."""
        self.freeze()
        at = time.time()
        try:
            subprocess.run(["cp", "--archive", self.directory, to], check=True)
        finally:
            self.thaw()
        (to / "postmaster.pid").unlink(missing_ok=True)
        return at

    def put_back(self, backup: Path) -> float:
        """Let the server recover from a backup, as after a crash at its moment; returns when nothing later is left."""
        self.stop("immediate")
        subprocess.run(["find", self.directory, "-mindepth", "1", "-delete"], check=True)
        subprocess.run(["cp", "--archive", f"{backup}/.", self.directory], check=True)
        at = time.time()
        self.start()
        return at


class PgBouncer(PrivateServer):
    """pgbouncer in transaction pooling; stop it "fast" (open transactions may end) or "immediate"."""

    name = "pgbouncer"
    listening_text = "listening on 127.0.0.1:{port}"
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGINT, "immediate": signal.SIGTERM}

    def __init__(self, directory: Path, postgres: Postgres) -> None:
        """A pooler in front of the given Postgres, which need not run yet."""
        super().__init__(directory, account_for("postgres"))
        self.postgres = postgres
        self.program = find_program("pgbouncer", "/usr/sbin/pgbouncer")

    def prepare(self) -> None:
        """Write the settings; a lost server is tried again every second, not every 15."""
        own_directory(self.directory, self.account)
        settings = f"""\
[databases]
* = host=127.0.0.1 port={self.postgres.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
admin_users = postgres
pool_mode = transaction
default_pool_size = 40
max_client_conn = 1000
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
"""
        write_own(self.directory / "pgbouncer.ini", settings, self.account)

    def command(self) -> list[str | Path]:
        """The pooler in the foreground."""
        return [self.program, "pgbouncer.ini"]

    def console(self, command: str) -> list[dict[str, str]]:
        """Run an admin command such as `SHOW POOLS`; one dict a row, keyed by column. Raises ServerFailed."""
        # asyncpg cannot do this: the console does not speak the extended query protocol.
        address = f"host=127.0.0.1 port={self.port} user=postgres dbname=pgbouncer"
        psql = [str(self.postgres.programs / "psql"), "--no-psqlrc", "--no-align", "--field-separator=\t"]
        arguments = ["--pset=footer=off", "--command", command, address]
        done = subprocess.run([*psql, *arguments], capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise ServerFailed(f"pgbouncer's console refused {command!r}: {done.stderr}")
        header, *rows = (line.split("\t") for line in done.stdout.splitlines())
        return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]
