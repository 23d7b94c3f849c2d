"""`make faults`: three replicas under a seeded schedule of faults, then a check of all that was recorded.

FAULT_SEEDS=1,2,3 FAULT_SECONDS=180 make faults
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from dev.demo_stage import Replica, migrate, servers
from dev.fault_world import SETTINGS, World
from dev.history import check
from dev.platform import Fault, Peer, Platform
from dev.services import Services

QUIET = 15.0  # seconds without faults at the end, in which everything must come to rest
PEERS: tuple[Peer, ...] = ("registry", "dispatcher", "booking", "entrypoint")
FAULTS = (Fault.status(500), Fault.hang(), Fault.reset(), Fault.garbage(b"\x00{"), Fault.json({"x": 1}), Fault.empty())


@dataclass
class Stage:
    """Everything that can be broken in one seed's run."""

    services: Services
    platform: Platform
    variables: dict[str, str]
    directory: Path
    dice: random.Random
    replicas: list[Replica] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    killed_at: list[float] = field(default_factory=list)
    frozen: list[tuple[float, float]] = field(default_factory=list)
    number: int = 0

    def add_replica(self) -> None:
        self.number += 1
        self.replicas.append(Replica(f"replica-{self.number}", self.variables, self.directory))

    async def kill_replica(self) -> None:
        victim = self.replicas.pop(self.dice.randrange(len(self.replicas)))
        victim.process.kill()
        await asyncio.to_thread(victim.process.wait)
        self.killed_at.append(time.time())
        await asyncio.sleep(self.dice.uniform(0.5, 3))
        self.add_replica()

    async def freeze_replica(self) -> None:
        victim = self.dice.choice(self.replicas)
        since = time.time()
        victim.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(1, 10))
        victim.process.send_signal(signal.SIGCONT)
        self.frozen.append((since, time.time()))

    async def bounce_pgbouncer(self) -> None:
        await asyncio.to_thread(self.services.pgbouncer.kill)
        await asyncio.sleep(self.dice.uniform(0.2, 3))
        await asyncio.to_thread(self.services.pgbouncer.start)

    async def bounce_postgres(self) -> None:
        await asyncio.to_thread(self.services.postgres.stop, "immediate")
        await asyncio.sleep(self.dice.uniform(0.2, 3))
        await asyncio.to_thread(self.services.postgres.start)

    async def bounce_rabbitmq(self) -> None:
        await asyncio.to_thread(self.services.rabbitmq.kill)
        await asyncio.sleep(self.dice.uniform(0.2, 2))
        await asyncio.to_thread(self.services.rabbitmq.start)

    async def break_neighbour(self) -> None:
        peer = self.dice.choice(PEERS)
        self.platform.fault(peer, self.dice.choice(FAULTS))
        await asyncio.sleep(self.dice.uniform(1, 5))
        self.platform.clear_faults(peer)

    async def lose_answers(self) -> None:
        peer: Peer = self.dice.choice(("dispatcher", "booking"))
        self.platform.fault(peer, Fault.lost_answer(), times=self.dice.randint(1, 3))
        await asyncio.sleep(self.dice.uniform(1, 4))
        self.platform.clear_faults(peer)

    async def inject(self) -> None:
        """One fault, from its beginning to its end."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            self.kill_replica,
            self.freeze_replica,
            self.bounce_pgbouncer,
            self.bounce_postgres,
            self.bounce_rabbitmq,
            self.break_neighbour,
            self.break_neighbour,
            self.lose_answers,
        )
        kind = self.dice.choice(kinds)
        self.injected[kind.__name__] += 1
        await kind()


async def run(seed: int, seconds: float) -> list[str]:
    """One seed; returns what was broken."""
    with tempfile.TemporaryDirectory(prefix="rps-limiter-faults-") as directory:
        async with servers() as services, Platform(saga_seconds=1.0) as platform:
            variables = services.environment() | platform.environment() | {"DATABASE_SCHEMA": "faults"}
            variables |= {name: str(value) for name, value in SETTINGS.items()}
            await migrate(variables)
            stage = Stage(services, platform, variables, Path(directory), random.Random(seed))
            world = World(platform, variables, services.direct_database_url)
            async with world:
                for _ in range(3):
                    stage.add_replica()
                await _storm(stage, world, seconds)
                exits = [await replica.stop() for replica in stage.replicas]
                history = await world.history()
            problems = check(history) + [f"violation: {told}" for told in platform.violations]
            problems += [f"a replica ended with code {code} when told to stop" for code in exits if code != 0]
            problems += await world.restless()
            _report(seed, stage, world, problems)
            return problems


async def _storm(stage: Stage, world: World, seconds: float) -> None:
    await asyncio.sleep(8)  # until all three run: a fault before that would only delay the start
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        world.live(stage.dice)
        await stage.inject()
        await asyncio.sleep(stage.dice.uniform(0, 3))
    stage.platform.clear_faults()
    await asyncio.sleep(QUIET)


def _report(seed: int, stage: Stage, world: World, problems: list[str]) -> None:
    faults = ", ".join(f"{count} {name}" for name, count in sorted(stage.injected.items()))
    print(f"seed {seed}: {sum(stage.injected.values())} faults ({faults})")
    print(f"  {world.figures(stage.killed_at, stage.frozen)}")
    for problem in problems:
        print(f"  BROKEN: {problem}")
    print(f"  {'no invariant broken' if not problems else f'{len(problems)} problems'}", flush=True)


async def main() -> int:
    seeds = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split(",")]
    seconds = float(os.environ.get("FAULT_SECONDS", "180"))
    problems = [problem for seed in seeds for problem in await run(seed, seconds)]
    print(f"{len(seeds)} seeds of {seconds:g} s: {'every invariant held' if not problems else 'BROKEN'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
