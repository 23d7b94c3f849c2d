"""What the private servers have in common: start, wait until they answer, stop, kill, freeze."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from dev.servers.processes import Process, as_account, free_port, is_running, process_tree, signal_all, spawn

StopMode = Literal["fast", "immediate"]

POLL_SECONDS = 0.05
STOP_TIMEOUT_SECONDS = 20.0  # a clean stop takes 1-2 s; what is not gone by then is killed
STARTS = 3  # how often a first start may lose the race for a free port

# What the servers log when another program has their port: Postgres and pgbouncer, RabbitMQ (two of them), epmd.
PORT_TAKEN_SIGNS = ("address already in use", "eaddrinuse", "distribution port", "already a epmd running")


class ServerFailed(RuntimeError):
    """A server does not run; the message names it and, after a start, shows the end of its log."""


class PortTaken(ServerFailed):
    """Another program took the port between choosing and binding it."""


class PrivateServer(ABC):
    """A server with its own port and directory, both kept when it is stopped and started again."""

    name: ClassVar[str]
    listening_text: ClassVar[str]  # what its log says once it owns `{port}`
    stop_signals: ClassVar[Mapping[StopMode, signal.Signals]]
    death_signal: ClassVar[signal.Signals] = signal.SIGKILL
    start_timeout_seconds: ClassVar[float] = 30.0

    def __init__(self, directory: Path, account: str | None) -> None:
        """`directory` is where the server's own directory and log go."""
        self.directory = directory / self.name
        self.account = account
        self.log = directory / f"{self.name}.log"
        self.port = free_port()
        self._port_is_kept = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server needs on disk for its present port; called before every start."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program and its arguments."""

    def environment(self) -> dict[str, str]:
        """The whole environment, so that settings of this machine's other servers cannot leak in."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": str(self.directory)}

    def choose_ports(self) -> None:
        """Take other ports; called only before the first successful start."""
        self.port = free_port()

    @property
    def pid(self) -> int:
        """The pid of the server itself; `ServerFailed` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the server's process runs (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[Process]:
        """The server's processes: itself and all its descendants."""
        return process_tree(self.pid) if self.is_alive else []

    def launch(self) -> None:
        """Start the process and do not wait until it answers; does nothing when it runs."""
        if self.is_alive:
            return
        self.prepare()
        command = as_account(self.account, self.death_signal, self.command())
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._process = spawn(command, self.directory, self.environment(), self.log)

    def start(self) -> None:
        """Launch it if needed and return when it answers, on other ports if another program took the first.

        Raises ServerFailed, with the end of its log, if it ends or does not answer in time.
        """
        for attempts_left in reversed(range(STARTS)):
            self.launch()
            try:
                self._wait_until_it_answers()
            except PortTaken:
                if self._port_is_kept or not attempts_left:
                    raise
                self.choose_ports()
            else:
                self._port_is_kept = True
                return

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it as an operator does and wait until all its processes have ended; a server that hangs is killed."""
        processes = self.processes()
        if self._process is not None and processes:
            signal_all(processes, signal.SIGCONT)
            self._process.send_signal(self.stop_signals[mode])
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_SECONDS)
        self._end(processes)

    def kill(self) -> None:
        """SIGKILL the server and its descendants, found by pid, and wait until they are gone."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGSTOP)  # so that it cannot fork while its descendants are listed
        self._end(self.processes())

    def freeze(self) -> None:
        """Suspend all its processes: connections stay open, nothing answers."""
        signal_all(self.processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the frozen processes."""
        signal_all(self.processes(), signal.SIGCONT)

    def answers(self) -> bool:
        """Whether the port accepts a connection."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _end(self, processes: list[Process]) -> None:
        signal_all(processes, signal.SIGKILL)
        while any(map(is_running, processes)):
            time.sleep(POLL_SECONDS / 5)
        if self._process is not None:
            self._process.wait()

    def _log_of_this_start(self) -> str:
        return self.log.read_bytes()[self._log_start :].decode(errors="replace")

    def _wait_until_it_answers(self) -> None:
        # An open port proves nothing: another program may have it. Our server logs that it listens only after it has
        # bound the port, and from then on no other program can.
        deadline = time.monotonic() + self.start_timeout_seconds
        announcement = self.listening_text.format(port=self.port)
        while not (announcement in self._log_of_this_start() and self.answers()):
            if not self.is_alive:
                raise self._failure(f"ended with exit code {self._process and self._process.returncode}")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"did not answer within {self.start_timeout_seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def _failure(self, what: str) -> ServerFailed:
        text = self._log_of_this_start()
        taken = any(sign in text.lower() for sign in PORT_TAKEN_SIGNS)
        tail = "\n".join(text.splitlines()[-20:])
        return (PortTaken if taken else ServerFailed)(f"{self.name} {what}. The end of its log:\n{tail}")
