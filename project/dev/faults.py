"""`make faults`: three replicas under a seeded schedule of faults, then a check of all that was recorded.

FAULT_SEEDS=1,2,3 FAULT_SECONDS=180 make faults

Each seed begins with a drill, in which a replica is killed and another is frozen in the middle of a run, and what that
costs is measured. Then comes the storm: one replica after the other is killed, frozen, cut off or given a wrong clock,
while the servers and the neighbours break too. After it everything must come to rest by itself.
"""

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from dev.demo_stage import migrate, servers
from dev.fault_stage import Kind, Member, Stage
from dev.fault_world import INTERVAL, SAGA_SECONDS, SETTINGS, World
from dev.history import Ran, check
from dev.platform import Fault, Platform

SEEDS = "1,2,3,4,5,6,7,8,9,10"
LONGEST_UNREST = 300.0  # seconds after the last fault, in which everything must come to rest
KILL_LIMIT, FREEZE_LIMIT = INTERVAL, 20.0  # seconds until the next run of a job whose runner was killed or froze


@dataclass
class Result:
    """What one seed came to."""

    problems: list[str] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    after_kill: list[float] = field(default_factory=list)
    after_freeze: list[float] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        self.problems += other.problems
        self.injected.update(other.injected)
        self.figures.update(other.figures)
        self.after_kill += other.after_kill
        self.after_freeze += other.after_freeze

    def show(self, what: str) -> None:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.injected.items()))
        print(f"{what}: {self.injected.total()} faults ({faults})")
        print("  " + ", ".join(f"{count} {name}" for name, count in self.figures.items()))
        kills, freezes = (
            ", ".join(f"{pause:.2f}" for pause in found) for found in (self.after_kill, self.after_freeze)
        )
        print(f"  next run of the job after kill -9 of its runner: {kills} s; after it froze: {freezes} s")
        for problem in self.problems:
            print(f"  BROKEN: {problem}")
        print(f"  {f'{len(self.problems)} problems' if self.problems else 'no invariant broken'}", flush=True)


async def run(
    seed: int,
    storm: Callable[[Stage], Awaitable[None]],
    settings: Mapping[str, object] | None = None,
    *,
    drilled: bool = True,
) -> Result:
    """One seed, from the start of its servers to the check of its history."""
    async with AsyncExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="rps-limiter-faults-"))
        services = await stack.enter_async_context(servers())
        platform = await stack.enter_async_context(Platform(saga_seconds=SAGA_SECONDS))
        variables = services.environment() | platform.environment() | {"DATABASE_SCHEMA": "faults"}
        variables |= {name: str(value) for name, value in {**SETTINGS, **(settings or {})}.items()}
        await migrate(variables)
        world = await stack.enter_async_context(World(platform, variables, services.direct_database_url))
        links = await stack.enter_async_context(AsyncExitStack())
        stage = Stage(services, platform, world, variables, directory, random.Random(seed), links)
        result = Result(problems=stage.problems, injected=stage.injected)
        for _ in range(3):
            await stage.add_replica()
        await _all_ready(stage)
        try:
            if drilled:
                await drill(stage, result)
            await storm(stage)
        except TimeoutError as error:
            result.problems.append(f"waited in vain: {error}")
        await _judge(stage, result)
        if result.problems:
            result.problems.append(f"the replicas' logs are kept in {directory}")
        else:
            shutil.rmtree(directory)
        return result


async def drill(stage: Stage, result: Result) -> None:
    """Measure what the death and the freezing of a job's runner cost, with nothing else broken."""
    runner, cut_short = await _caught(stage)
    since = time.time()
    await stage.kill(runner)
    result.after_kill.append((await stage.world.run_after(cut_short)).at - since)
    stage.platform.clear_faults()
    await stage.add_replica()
    await _all_ready(stage)
    runner, cut_short = await _caught(stage)
    since = time.time()
    runner.replica.process.send_signal(signal.SIGSTOP)
    try:
        result.after_freeze.append((await stage.world.run_after(cut_short)).at - since)
    finally:
        stage.platform.clear_faults()
        runner.replica.process.send_signal(signal.SIGCONT)
    if max(result.after_kill) > KILL_LIMIT or max(result.after_freeze) > FREEZE_LIMIT:
        result.problems.append("the job stood still for too long after its runner was killed or froze")


async def _caught(stage: Stage) -> tuple[Member, Ran]:
    """A replica in the middle of a run, which the registry keeps waiting."""
    stage.platform.fault("registry", Fault.hang(), times=1)
    run = await stage.world.stuck_run()
    for member in stage.members:
        if any(line.get("run") == f"{run.job}:{run.epoch}" for line in member.replica.fresh_lines()):
            return member, run
    raise RuntimeError(f"no replica says that it runs {run.job}:{run.epoch}")


async def _all_ready(stage: Stage) -> None:
    """Wait until every replica says that it is ready."""
    async with asyncio.timeout(LONGEST_UNREST):
        while True:
            if all([await member.replica.is_ready() for member in stage.members]):
                return
            await asyncio.sleep(0.1)


def storm_of(seconds: float) -> Callable[[Stage], Awaitable[None]]:
    """For so many seconds one fault of a replica and one of a server or neighbour at any time, and users."""

    async def storm(stage: Stage) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(_track(stage, stage.faults_of_replicas(), until))
            group.create_task(_track(stage, stage.faults_of_servers(), until))
            group.create_task(_users(stage, until))
        stage.platform.clear_faults()

    return storm


async def each_once(stage: Stage) -> None:
    """The short form: every kind of fault once."""
    until = time.monotonic() + 1
    async with asyncio.TaskGroup() as group:
        group.create_task(_track(stage, stage.faults_of_replicas(), until))
        group.create_task(_track(stage, stage.faults_of_servers(), until))
        group.create_task(_users(stage, until + 30))
    stage.platform.clear_faults()


async def _track(stage: Stage, kinds: Sequence[Kind], until: float) -> None:
    """One fault after the other, each kind as often as the next: dealt like cards from a shuffled deck."""
    while time.monotonic() < until:
        for kind in stage.dice.sample(kinds, len(kinds)):
            await stage.inject(kind)
            await asyncio.sleep(stage.dice.uniform(0, 3))


async def _users(stage: Stage, until: float) -> None:
    while time.monotonic() < until:
        stage.world.live(stage.dice)
        await asyncio.sleep(stage.dice.uniform(2, 6))


async def _judge(stage: Stage, result: Result) -> None:
    """Wait until all is over, then check what was recorded; stopped earlier, a replica would leave work to others."""
    try:
        await _all_ready(stage)
    except TimeoutError:
        result.problems.append("not every replica is ready again")
    unrest = await _unrest(stage, time.monotonic() + LONGEST_UNREST)
    for member in list(stage.members):
        await stage.end(member)
    result.problems += check(await stage.world.history()) + unrest + stage.strays()
    result.problems += [f"violation: {told}" for told in stage.platform.violations]
    result.figures = stage.world.figures()


async def _unrest(stage: Stage, give_up: float) -> list[str]:
    """Wait for rest; returns what has not come to it."""
    while True:
        unrest = await stage.world.unrest()
        if not unrest or time.monotonic() > give_up:
            return unrest
        await asyncio.sleep(0.5)


async def main() -> int:
    seeds = [int(seed) for seed in os.environ.get("FAULT_SEEDS", SEEDS).split(",")]
    seconds = float(os.environ.get("FAULT_SECONDS", "180"))
    total = Result()
    for seed in seeds:
        result = await run(seed, storm_of(seconds))
        result.show(f"seed {seed}")
        total.add(result)
    total.show(f"{len(seeds)} seeds of {seconds:g} s")
    return 1 if total.problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
