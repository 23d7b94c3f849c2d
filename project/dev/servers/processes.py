"""Processes that never outlive this one: starting them, finding them by pid, their accounts, files and ports.

The kernel enforces the first part: every process is started by `setpriv --pdeathsig`, which has it signalled when its
parent ends. To the kernel the parent is the *thread* that started it, so one thread that lives as long as this process
starts everything: a server started from `asyncio.to_thread` must outlive that thread.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# Standard ports of Postgres, pgbouncer, epmd and RabbitMQ (AMQP, management, distribution): never ours.
STANDARD_PORTS = frozenset({5432, 6432, 4369, 5672, 15672, 25672})

_parent_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-parent")


class ServerMissing(RuntimeError):
    """A server's program is not installed; the message says what to install."""


class Process(NamedTuple):
    """One process of this machine; the start time tells it from a later one with the same pid."""

    pid: int
    started: int  # clock ticks since boot


def find_program(package: str, pattern: str) -> Path:
    """The newest program that matches the pattern; raises ServerMissing, naming the Debian package."""
    found = sorted(Path("/").glob(pattern.lstrip("/")), key=lambda path: (len(str(path)), str(path)))
    if not found:
        raise ServerMissing(f"{pattern} is missing: run `make install`, or `apt-get install {package}`")
    return found[-1]


def account_for(name: str) -> str | None:
    """The account a server runs as: its own when we are root (Postgres refuses root), else ours (None)."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_name
    return None


def as_account(account: str | None, death_signal: signal.Signals, command: Sequence[str | Path]) -> list[str]:
    """The command, run as the account and signalled when we end; `setpriv` execs, so the pid stays the same."""
    drop = []
    if account is not None:
        drop = ["--reuid", account, "--regid", str(pwd.getpwnam(account).pw_gid), "--init-groups"]
    return ["setpriv", "--pdeathsig", death_signal.name, *drop, "--", *map(str, command)]


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


def free_port() -> int:
    """A port nobody listens on, below the ports the kernel hands to clients where there is room.

    A client that keeps reconnecting to a stopped server can be given that very port, and then the server cannot return.
    """
    lowest_client_port = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(20_000, lowest_client_port) if lowest_client_port > 21_000 else 0
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            port = probe.getsockname()[1]
            if port not in STANDARD_PORTS:
                return int(port)


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time of a process, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the command name before it may contain spaces and brackets
    return fields[0], int(fields[1]), int(fields[19])


def is_running(process: Process) -> bool:
    """Whether it still runs; a zombie does not."""
    stat = _stat(process.pid)
    return stat is not None and stat[0] not in "ZX" and stat[2] == process.started


def process_tree(root: int) -> list[Process]:
    """The process and all its descendants, the root first."""
    stats = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    tree = [root] if stats.get(root) else []
    for parent in tree:  # grows while it is walked
        tree += [pid for pid, stat in stats.items() if stat and stat[1] == parent]
    return [Process(pid, stat[2]) for pid in tree if (stat := stats[pid])]


def signal_all(processes: Iterable[Process], number: signal.Signals) -> None:
    """Signal those that still run."""
    for process in processes:
        if is_running(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def spawn(command: list[str], directory: Path, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the command with its output appended to the log."""
    with log.open("ab") as output:
        return _parent_thread.submit(
            lambda: subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is meant for us, not for the servers
            )
        ).result()
