"""Postgres, pgbouncer and RabbitMQ as private servers, set up for tests: fast, loopback only, no standard port."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from dev.private_server import PrivateServer, ServerFailed, StopMode
from dev.processes import Process, account_for, as_account, find_program, free_port

AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = b"\x00\x0a\x00\x0a"  # class 10, method 10: the broker's answer to the greeting

# Booting looks for thousands of small files, each asked of another thread. Letting that thread spin before it sleeps
# brings the start on a virtual machine from 11-25 s to 4-6 s; idle, the broker still takes 1 % of a core.
FAST_BOOT = "+sbwtdio very_long"


def own_directory(path: Path, account: str | None) -> None:
    """Make the directory if needed, private to the account."""
    path.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        shutil.chown(path, account)


def write_own(path: Path, text: str, account: str | None) -> None:
    """Write a file that only the account can read, whatever our umask."""
    path.write_text(text)
    path.chmod(0o600)
    if account is not None:
        shutil.chown(path, account)


class Postgres(PrivateServer):
    """PostgreSQL; stop it "fast" (clients are cut off) or "immediate" (like a crash, recovers at the next start)."""

    name = "postgres"
    listening_text = "ready to accept connections"  # it exits before saying so when the port is taken
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
    death_signal = signal.SIGQUIT  # unlike SIGKILL it frees the shared memory

    # synchronous_commit stays on: an immediate stop may lose nothing that was committed. Only a crash of the whole
    # machine would, and no test survives that. Shared memory in the data directory goes away with it.
    settings: ClassVar[Mapping[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "fsync": "off",
        "full_page_writes": "off",
        "dynamic_shared_memory_type": "mmap",
    }

    def __init__(self, directory: Path) -> None:
        """Look for the programs; nothing is written before the start."""
        super().__init__(directory, account_for("postgres"))
        self.programs = find_program("postgresql", "/usr/lib/postgresql/*/bin/postgres").parent

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
        """Write the settings; after a lost server, log in again every second instead of every 15."""
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
        """Run an admin command such as `SHOW POOLS`; one dict a row, keyed by column."""
        # asyncpg cannot do this: the console does not speak the extended query protocol.
        address = f"host=127.0.0.1 port={self.port} user=postgres dbname=pgbouncer"
        psql = [str(self.postgres.programs / "psql"), "--no-psqlrc", "--no-align", "--field-separator=\t"]
        arguments = ["--pset=footer=off", "--command", command, address]
        done = subprocess.run([*psql, *arguments], capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise ServerFailed(f"pgbouncer's console refused {command!r}: {done.stderr}")
        header, *rows = (line.split("\t") for line in done.stdout.splitlines())
        return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


class Epmd(PrivateServer):
    """The port mapper every Erlang node needs; a node starts a shared one that outlives it unless it finds this one."""

    name = "epmd"
    listening_text = "entering the main select() loop"
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGTERM, "immediate": signal.SIGTERM}

    def __init__(self, directory: Path, account: str | None) -> None:
        """Comes with Erlang, and so with RabbitMQ."""
        super().__init__(directory, account)
        self.program = find_program("rabbitmq-server", "/usr/bin/epmd")

    def prepare(self) -> None:
        """Keeps nothing on disk."""
        own_directory(self.directory, self.account)

    def command(self) -> list[str | Path]:
        """The mapper in the foreground; `-d -d` makes it say when it listens."""
        return [self.program, "-port", str(self.port), "-address", "127.0.0.1", "-d", "-d"]


class RabbitMQ(PrivateServer):
    """RabbitMQ with its own epmd; stop it "fast" (a clean shutdown) or "immediate" (the same as `kill`)."""

    name = "rabbitmq"
    listening_text = "started TCP listener on 127.0.0.1:{port}"
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}
    start_timeout_seconds = 120.0  # 4-6 s on two free cores, 25 s seen on busy ones

    def __init__(self, directory: Path) -> None:
        """Look for the programs; nothing is written before the start."""
        super().__init__(directory, account_for("rabbitmq"))
        # Not the one in /usr/sbin: that wrapper changes user and directory.
        self.program = find_program("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server")
        self.epmd = Epmd(directory, self.account)
        self.distribution_port = free_port()
        self.cookie = secrets.token_hex(16)

    def choose_ports(self) -> None:
        """Take another AMQP port and another distribution port."""
        super().choose_ports()
        self.distribution_port = free_port()

    def prepare(self) -> None:
        """Write cookie and settings; the limits are absolute because a small disk would block every publisher."""
        own_directory(self.directory, self.account)
        settings = f"""\
listeners.tcp.1 = 127.0.0.1:{self.port}
loopback_users.guest = true
heartbeat = 10
log.console = true
log.console.level = info
log.console.use_colors = off
log.file = false
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
"""
        write_own(self.directory / "rabbitmq.conf", settings, self.account)
        write_own(self.directory / "enabled_plugins", "[].", self.account)
        write_own(self.directory / ".erlang.cookie", self.cookie, self.account)

    def command(self) -> list[str | Path]:
        """The broker in the foreground."""
        return [self.program]

    def environment(self) -> dict[str, str]:
        """Everything that would otherwise come from the machine's own RabbitMQ."""
        return {
            **super().environment(),
            "RABBITMQ_NODENAME": "rps-limiter@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{FAST_BOOT} -kernel inet_dist_use_interface {{127,0,0,1}}",
            "ERL_EPMD_PORT": str(self.epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Makes the start script exec the broker, so that our pid is the broker's and not a shell's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def processes(self) -> list[Process]:
        """The broker's processes and epmd."""
        return super().processes() + self.epmd.processes()

    def launch(self) -> None:
        """Start epmd, then the broker."""
        self.epmd.start()
        super().launch()

    def answers(self) -> bool:
        """Whether the broker answers the AMQP greeting."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(AMQP_GREETING)
            return connection.recv(11)[7:11] == CONNECTION_START
        return False

    def _end(self, processes: list[Process]) -> None:
        super()._end(processes)
        self.epmd.kill()
