"""`make soak`: every job every 0.2 s for half an hour, with faults; memory and connections must not grow.

SOAK_SECONDS=1800 make soak

Replicas are frozen and cut off, servers and external services break; no replica is killed, so that growth shows. Once a
minute, with nothing broken, each replica's memory and open sockets and Postgres's connections are measured.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sqlalchemy import text

from dev.chaos.nemesis import Member, Nemesis
from dev.chaos.run import run
from dev.chaos.settings import SETTINGS
from dev.wording import counted

INTERVAL = 0.2
SAMPLE_SECONDS = 60.0
WARM_UP = 5  # samples until caches, pools and the fleet have reached their size
GROWTH_LIMIT = 1.05  # last third against the first third after the warm-up
IDLE_SOCKETS = 3  # by so many the HTTP connections kept for the next call vary
FAST = {name: INTERVAL for name in SETTINGS if name.endswith("_INTERVAL_SECONDS")}
# Old rows are removed during the soak, so that memory reaches its bound; DEBUG lines would fill the disk.
BOUNDED = {"HISTORY_RETENTION_SECONDS": 120, "LOG_LEVEL": "INFO"}


@dataclass
class Soak:
    """A storm of `seconds`, with its samples: resident MB and sockets of each replica, and Postgres's connections."""

    seconds: float
    memory: dict[str, list[float]] = field(default_factory=dict)
    sockets: dict[str, list[int]] = field(default_factory=dict)
    backends: list[int] = field(default_factory=list)

    async def __call__(self, nemesis: Nemesis) -> None:
        until = time.monotonic() + self.seconds
        kinds = [nemesis.freeze_replica, nemesis.cut_network, *nemesis.faults_of_servers()]
        while time.monotonic() < until:
            round_ends = time.monotonic() + SAMPLE_SECONDS
            for kind in nemesis.dice.sample(kinds, len(kinds)):
                nemesis.workload.live(nemesis.dice)
                if time.monotonic() < round_ends - 10:
                    await nemesis.inject(kind)
            await asyncio.sleep(max(5.0, round_ends - time.monotonic()))
            await self._sample(nemesis)

    async def _sample(self, nemesis: Nemesis) -> None:
        for member in nemesis.members:
            self.memory.setdefault(member.replica.name, []).append(resident_mb(member.replica.process.pid))
            self.sockets.setdefault(member.replica.name, []).append(_sockets(member))
        async with nemesis.observer.database() as connection:
            query = text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            self.backends.append(await connection.scalar(query) or 0)
        replicas = "; ".join(
            f"{name}: {found[-1]:.1f} MB, {counted(self.sockets[name][-1], 'socket')}"
            for name, found in self.memory.items()
        )
        connections = counted(self.backends[-1], "connection")
        print(f"minute {len(self.backends)}: {replicas}; Postgres: {connections}", flush=True)

    def problems(self) -> list[str]:
        """What grew, in words; prints the medians and the maximum of every series."""
        series: list[tuple[str, Sequence[float], float]]
        series = [(f"memory of {name}", values, 0) for name, values in self.memory.items()]
        series += [(f"sockets of {name}", counts, IDLE_SOCKETS) for name, counts in self.sockets.items()]
        series.append(("connections to Postgres", self.backends, IDLE_SOCKETS))
        return [problem for one in series for problem in growth(*one)]


def growth(name: str, values: Sequence[float], slack: float = 0) -> list[str]:
    """That it grew after the warm-up, in words, or nothing; prints the medians and the maximum."""
    settled = values[WARM_UP:] or values
    third = max(1, len(settled) // 3)
    early, late = median(settled[:third]), median(settled[-third:])
    print(f"{name}: {early:.1f} early, {late:.1f} late, at most {max(settled):.1f}")
    return [f"{name} grew from {early:.1f} to {late:.1f}"] if late > early * GROWTH_LIMIT + slack else []


def resident_mb(pid: int) -> float:
    """The memory that a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def _sockets(member: Member) -> int:
    descriptors = Path(f"/proc/{member.replica.process.pid}/fd").iterdir()
    return sum(os.readlink(descriptor).startswith("socket:") for descriptor in descriptors)


async def main() -> int:
    """Soak for SOAK_SECONDS; returns 1 if something grew or an invariant broke."""
    soak = Soak(float(os.environ.get("SOAK_SECONDS", "1800")))
    result = await run(1, soak, {**FAST, **BOUNDED}, drilled=False)
    result.problems += soak.problems()
    result.show(f"{soak.seconds:g} s of ticks every {INTERVAL:g} s")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
