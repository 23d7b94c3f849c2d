"""`make faults`: three replicas under a seeded schedule of faults, then a check of all that was recorded.

FAULT_SEEDS=1,2,3 FAULT_SECONDS=180 make faults

Each seed begins with a drill: a replica is killed, then another is frozen, in the middle of a run, and the time to the
next run is measured. Then comes the storm: one replica after the other is killed, frozen, cut off or given a wrong
clock, while servers and external services break, and cancellings are refused, forgotten and overtaken. After it every
event, command, spell and run must be settled without help.
"""

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from dev.chaos.checker import check
from dev.chaos.history import Ran
from dev.chaos.nemesis import Kind, Member, Nemesis
from dev.chaos.observer import Observer
from dev.chaos.records import violations
from dev.chaos.result import Result
from dev.chaos.settings import INTERVAL, LIMIT, SAGA_SECONDS, SETTINGS
from dev.chaos.workload import Workload
from dev.fake_platform.platform import Fault, Platform
from dev.servers.replica import ROOT, migrate, servers
from dev.wording import counted

SEEDS = "1,2,3,4,5,6,7,8,9,10"
SETTLE_TIMEOUT = 300.0  # seconds after the last fault, within which everything must be settled
DISK_MEGABYTES = 256  # of which Postgres needs a third
SHORT_SILENCE = 6.0  # seconds
LONGEST_PAUSE, SHORT_PAUSE = 3.0, 1.0  # seconds between two faults of a track, at most
KILL_LIMIT, FREEZE_LIMIT = INTERVAL, 20.0  # seconds to a job's next run after its replica was killed or frozen


async def run(
    seed: int,
    storm: Callable[[Nemesis], Awaitable[None]],
    settings: Mapping[str, object] | None = None,
    *,
    drilled: bool = True,
    replicas: int = 3,
    root: Path = ROOT,
) -> Result:
    """Run one seed, from the start of its servers to the check of its history; `settings` are further variables.

    It begins with so many replicas of the code at `root`.
    """
    async with AsyncExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="rps-limiter-faults-"))
        services = await stack.enter_async_context(servers(DISK_MEGABYTES))
        if not services.postgres.has_own_disk:
            print("no right to mount a small disk: Postgres is never without room here", flush=True)
        platform = await stack.enter_async_context(Platform(saga_seconds=SAGA_SECONDS))
        variables = services.environment() | platform.environment() | {"DATABASE_SCHEMA": "faults"}
        variables |= {name: str(value) for name, value in {**SETTINGS, **(settings or {})}.items()}
        await migrate(variables, root)
        workload = Workload(platform, services.rabbitmq_url)
        observer = await stack.enter_async_context(Observer(workload, variables, services.direct_database_url))
        proxies = await stack.enter_async_context(AsyncExitStack())
        nemesis = Nemesis(
            services, platform, workload, observer, variables, directory, random.Random(seed), proxies, root=root
        )
        result = Result(problems=nemesis.problems, injected=nemesis.injected)
        for _ in range(replicas):
            await nemesis.add_replica()
        await all_ready(nemesis)
        try:
            if drilled:
                await drill(nemesis, result)
            await storm(nemesis)
        except TimeoutError as error:
            result.problems.append(f"timed out: {error}")
        await _judge(nemesis, result)
        if result.problems:
            result.problems.append(f"the replicas' logs are kept in {directory}")
        else:
            shutil.rmtree(directory)
        return result


async def drill(nemesis: Nemesis, result: Result) -> None:
    """Measure how long a job waits after its replica is killed or frozen, with nothing else broken."""
    member, cut_short = await _caught(nemesis)
    since = time.time()
    await nemesis.kill(member)
    result.after_kill.append((await nemesis.observer.run_after(cut_short)).at - since)
    nemesis.platform.clear_faults()
    await nemesis.add_replica()
    await all_ready(nemesis)
    member, cut_short = await _caught(nemesis)
    since = time.time()
    member.replica.process.send_signal(signal.SIGSTOP)
    try:
        result.after_freeze.append((await nemesis.observer.run_after(cut_short)).at - since)
    finally:
        nemesis.platform.clear_faults()
        member.replica.process.send_signal(signal.SIGCONT)
    if max(result.after_kill) > KILL_LIMIT or max(result.after_freeze) > FREEZE_LIMIT:
        result.problems.append("the job did not run for too long after its replica was killed or frozen")


async def _caught(nemesis: Nemesis) -> tuple[Member, Ran]:
    """A replica in the middle of a run that waits for the registry, and the run; raises TimeoutError."""
    async with asyncio.timeout(SETTLE_TIMEOUT):
        while True:
            hanging = nemesis.platform.fault("registry", Fault.hang(), times=1)
            await hanging.met.wait()
            run = await nemesis.observer.stuck_run()
            member = await _runner(nemesis, run)
            if await nemesis.observer.still_waits(run):  # on a busy machine it may have gone on meanwhile
                return member, run


async def _runner(nemesis: Nemesis, run: Ran) -> Member:
    """The replica that says in its log that it runs this; on a busy machine that is later than the table."""
    while True:
        for member in nemesis.members:
            if any(line.get("run") == f"{run.job}:{run.epoch}" for line in member.replica.fresh_lines()):
                return member
        await asyncio.sleep(0.02)


async def all_ready(nemesis: Nemesis) -> None:
    """Wait until every replica is ready; raises TimeoutError after `SETTLE_TIMEOUT`."""
    async with asyncio.timeout(SETTLE_TIMEOUT):
        while True:
            if all([await member.replica.is_ready() for member in nemesis.members]):
                return
            await asyncio.sleep(0.1)


def storm_of(seconds: float) -> Callable[[Nemesis], Awaitable[None]]:
    """For so many seconds, one fault of a replica, of a server or service and of a cancelling at a time, and users."""

    async def storm(nemesis: Nemesis) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(track(nemesis, nemesis.faults_of_replicas(), until))
            group.create_task(track(nemesis, nemesis.faults_of_servers(), until))
            group.create_task(track(nemesis, nemesis.faults_of_cancelling(), until))
            group.create_task(users(nemesis, until))
        nemesis.platform.clear_faults()

    return storm


async def each_once(nemesis: Nemesis) -> None:
    """The short storm: every kind of fault once; that a silent owner loses its lock, the drill has shown."""
    nemesis.longest_silence = nemesis.longest_loss = SHORT_SILENCE
    until = time.monotonic() + 1
    async with asyncio.TaskGroup() as group:
        group.create_task(track(nemesis, nemesis.faults_of_replicas(), until, SHORT_PAUSE))
        group.create_task(track(nemesis, nemesis.faults_of_servers(), until, SHORT_PAUSE))
        for kind in nemesis.faults_of_cancelling():  # each waits for what it is to meet, so all wait at once
            group.create_task(nemesis.inject(kind))
        group.create_task(users(nemesis, until + LIMIT))
    nemesis.platform.clear_faults()


async def track(nemesis: Nemesis, kinds: Sequence[Kind], until: float, longest_pause: float = LONGEST_PAUSE) -> None:
    """Inject one fault after the other until then; each round has every kind once, in random order."""
    while time.monotonic() < until:
        for kind in nemesis.dice.sample(kinds, len(kinds)):
            await nemesis.inject(kind)
            await asyncio.sleep(nemesis.dice.uniform(0, longest_pause))


async def users(nemesis: Nemesis, until: float) -> None:
    while time.monotonic() < until:
        nemesis.workload.live(nemesis.dice)
        await asyncio.sleep(nemesis.dice.uniform(2, 6))


async def _judge(nemesis: Nemesis, result: Result) -> None:
    """Wait until everything is settled, stop the replicas, and check the history."""
    try:
        await all_ready(nemesis)
    except TimeoutError:
        result.problems.append("not every replica is ready again")
    await nemesis.workload.rest()
    unsettled = await _settled_and_ended(nemesis)
    if not unsettled and await nemesis.observer.unsettled():  # a spell was closed while they ended
        await nemesis.add_replica()
        unsettled = await _settled_and_ended(nemesis)
    history = await nemesis.observer.history()
    result.problems += check(history) + unsettled + nemesis.strays()
    result.problems += violations(nemesis.platform, history)
    result.figures = nemesis.observer.figures(history)


async def _settled_and_ended(nemesis: Nemesis) -> list[str]:
    """End all replicas once everything is settled; returns what is not."""
    unsettled = await _unsettled(nemesis, time.monotonic() + SETTLE_TIMEOUT)
    for member in list(nemesis.members):
        await nemesis.end(member)
    return unsettled


async def _unsettled(nemesis: Nemesis, give_up: float) -> list[str]:
    """Wait until everything is settled; returns what is not by the time `give_up`."""
    while True:
        for _ in range(20):
            unsettled = await nemesis.observer.unsettled()
            if not unsettled or time.monotonic() > give_up:
                return unsettled
            await asyncio.sleep(0.5)
        # A pause may have been kept back by a frozen replica, and come only now.
        await nemesis.workload.resume()


async def main() -> int:
    """Run the seeds of FAULT_SEEDS, FAULT_SECONDS each; returns 1 if there is a problem."""
    seeds = [int(seed) for seed in os.environ.get("FAULT_SEEDS", SEEDS).split(",")]
    seconds = float(os.environ.get("FAULT_SECONDS", "180"))
    total = Result()
    for seed in seeds:
        result = await run(seed, storm_of(seconds))
        result.show(f"seed {seed}")
        total.add(result)
    total.show(f"{counted(len(seeds), 'seed')} of {seconds:g} s")
    return 1 if total.problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
