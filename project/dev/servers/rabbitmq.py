"""RabbitMQ, and the epmd it needs, as private servers set up for tests: fast to start, loopback only."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from dev.servers.private_server import PrivateServer, ServerFailed, StopMode
from dev.servers.processes import Process, account_for, as_account, find_program, free_port, own_directory, write_own

AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = b"\x00\x0a\x00\x0a"  # class 10, method 10: the broker's answer to the greeting

# Booting looks up thousands of small files, each through another thread. Letting that thread spin before it sleeps
# brings the start on a virtual machine from 11-25 s to 4-6 s; idle, the broker still takes 1 % of a core. All others
# need not spin: 0.5 s of the processor less at each start, for whatever else runs on the machine.
FAST_BOOT = "+sbwtdio very_long +sbwt none +sbwtdcpu none"


class Epmd(PrivateServer):
    """The port mapper that an Erlang node needs; if it finds none, it starts a shared one that outlives it."""

    name = "epmd"
    listening_text = "entering the main select() loop"
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGTERM, "immediate": signal.SIGTERM}

    def __init__(self, directory: Path, account: str | None) -> None:
        """Find the program, which comes with Erlang, and so with RabbitMQ."""
        super().__init__(directory, account)
        self.program = find_program("rabbitmq-server", "/usr/bin/epmd")

    def prepare(self) -> None:
        """Make the working directory; epmd keeps nothing on disk."""
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
        """Find the program (`ServerMissing` if it is not installed); nothing is written before the start."""
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
        """Every setting that would otherwise come from the machine's own RabbitMQ."""
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
            # Makes the start script exec the broker, so that the pid we know is the broker's and not a shell's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def processes(self) -> list[Process]:
        """The broker's processes and epmd."""
        return super().processes() + self.epmd.processes()

    def launch(self) -> None:
        """Start epmd, then the broker."""
        self.epmd.start()
        super().launch()

    def control(self, *command: str) -> None:
        """Run rabbitmqctl, as an operator does."""
        program = as_account(self.account, signal.SIGKILL, [self.program.parent / "rabbitmqctl", *command])
        done = subprocess.run(program, cwd=self.directory, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"rabbitmqctl {' '.join(command)} failed: {done.stdout}{done.stderr}")

    def answers(self) -> bool:
        """Whether the broker answers the AMQP greeting."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(AMQP_GREETING)
            return connection.recv(11)[7:11] == CONNECTION_START
        return False

    def _end(self, processes: list[Process]) -> None:
        super()._end(processes)
        self.epmd.kill()
