"""`make load`: the service before a platform that is slow and often wrong, and what became of its intervals.

LOAD_SECONDS=600 LOAD_MODELS=10000 LOAD_REPLICAS=1 make load

The platform answers everything after two seconds, and a tenth of it with an error; of these half have acted before.
A tenth of the models is called, one in a hundred so much that it must grow, and one user in ten has forgotten his
booking. All settings are the defaults but for the idle times. At the end every due slot of a job must have been run or
be counted as missed, memory must be flat, and each critical error must be one that the platform made.
"""

import asyncio
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from dev.chaos.soak import GROWTH_LIMIT, resident_mb
from dev.demo.notifier import Notifier, notifier
from dev.fake_platform.call import JSON_HEADER, Answer, Call
from dev.fake_platform.faults import Fault, plain
from dev.fake_platform.platform import Exchange, Platform, Service
from dev.servers.replica import Replica, migrate, servers
from dev.wording import counted

ANSWER_SECONDS, ERROR_SHARE = 2.0, 0.1
SERVICES: tuple[Service, ...] = ("registry", "dispatcher", "booking", "entrypoint")
SCHEMA = "load"
BOOKINGS, IDLE_SHARE = 1000, 0.1
STEADY_RPS, BUSY_RPS = 5.0, 25.0  # a replica takes 10
SAMPLE_SECONDS, MINUTE = 10.0, 6  # between two samples of memory, and how many samples make a minute
WARM_UP = 4  # minutes until a replica has had every kind of run; of several, each may have its first later
LIMIT, LEAD = 130, 65  # seconds: as few as the intervals allow, so that cancelling begins while memory settles
ATTEMPTS, ATTEMPTS_SECONDS = 3, 13.0  # HTTP_ATTEMPTS; at most 5 s each, and a pause of at most 1.2 s
INTERVALS = {"rps_check": 15, "idle_warning": 60, "idle_enforce": 60, "saga_poll": 5}  # seconds, the defaults
SETTINGS = {
    "DATABASE_SCHEMA": SCHEMA,
    "IDLE_LIMIT_SECONDS": LIMIT,
    "IDLE_WARNING_LEAD_SECONDS": LEAD,
    "USER_EMAIL_TEMPLATE": "{user_name}@example.org",
}


@dataclass
class Load:
    """What takes part, and the memory of each replica in MB over time."""

    platform: Platform
    replicas: list[Replica]
    database: asyncpg.Connection
    notificator: Notifier
    stages: Counter[str] = field(default_factory=Counter)
    memory: dict[str, list[float]] = field(default_factory=dict)

    async def run_for(self, seconds: float) -> None:
        """Let it run for so long; raises ReplicaFailed if one ends."""
        until = time.monotonic() + seconds
        async with httpx.AsyncClient() as client:
            while time.monotonic() < until:
                await asyncio.sleep(SAMPLE_SECONDS)
                self.stages.update(event["reservation"]["stage"] for event in await self.notificator.received())
                for replica in self.replicas:
                    await replica.check(client)
                    self.memory.setdefault(replica.name, []).append(resident_mb(replica.process.pid))

    async def counters(self, series: str, label: str) -> Counter[str]:
        """A counter of all replicas, by one of its labels."""
        total: Counter[str] = Counter()
        async with httpx.AsyncClient() as client:
            for replica in self.replicas:
                page = (await client.get(f"http://127.0.0.1:{replica.port}/metrics", timeout=60)).text
                for labels, value in re.findall(rf"^rps_limiter_{series}_total{{(.*)}} (\S+)$", page, re.M):
                    total[dict(re.findall(r'(\w+)="([^"]*)"', labels))[label]] += int(float(value))
        return total

    async def intervals(self) -> list[str]:
        """Print what became of each job's due slots; returns, in words, those that nobody accounts for."""
        problems, missed = [], await self.counters("job_missed", "job")
        print("| job | every s | due | run | missed, as counted | runs failed | longest run s |")
        print("|---|---|---|---|---|---|---|")
        for job, interval in INTERVALS.items():
            (found,) = await self.database.fetch(SLOTS, job)
            due = round((found["last"] - found["first"]) / interval) + 1
            shown = (due, found["run"], missed[job], found["failed"], f"{found['longest']:.1f}")
            print(f"| {job} | {interval} | " + " | ".join(map(str, shown)) + " |")
            if due != found["run"] + missed[job]:
                problems.append(
                    f"{job}: of {due} due slots {found['run']} were run and {missed[job]} counted as missed"
                )
        return problems

    async def criticals(self) -> list[str]:
        """Print the critical errors beside what the platform did; returns, in words, those that are not true."""
        problems, true = [], true_criticals(self.platform.history)
        counts = await self.counters("critical_errors", "reason")
        for reason, count in counts.items():
            if count:
                print(f"critical {reason}: {count}, of the platform's making: {true[reason]}")
            if count > true[reason]:
                problems.append(f"{reason} is counted {count} times, and {true[reason]} times true")
        return problems


def still_rising(name: str, values: Sequence[float]) -> list[str]:
    """That its memory rises to the end, in words, or nothing; prints its peaks.

    A process keeps what it once needed, and it needs most when all jobs happen to run at once: what tells is whether
    the peak of the end is above the one before.
    """
    settled = values[WARM_UP * MINUTE :] or values
    end = max(1, len(settled) // 3)
    before, late = max(settled[:-end], default=settled[0]), max(settled[-end:])
    print(f"memory of {name}: at most {before:.1f} MB after {WARM_UP} minutes, {late:.1f} MB in the last third since")
    return [f"memory of {name} rose from {before:.1f} to {late:.1f} MB"] if late > before * GROWTH_LIMIT else []


def true_criticals(history: Sequence[Exchange]) -> Counter[str]:
    """How many critical errors of each reason there can be at most: what failed at every attempt, and each command."""
    failures: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    true: Counter[str] = Counter()
    for call in sorted(history, key=lambda call: call.at):
        if call.status is None or call.status >= 500:  # nobody waits longer than HTTP_TIMEOUT_SECONDS
            failures[call.service, call.method, call.path, *sorted(call.query.items())].append(call.at)
            true["command_answer_lost"] += call.method == "POST"
    for (service, *_), times in failures.items():
        reason = "metrics_unavailable" if service == "entrypoint" else f"{service}_unavailable"
        while len(times) >= ATTEMPTS:
            in_a_row = times[ATTEMPTS - 1] - times[0] <= ATTEMPTS_SECONDS
            true[reason] += in_a_row
            del times[: ATTEMPTS if in_a_row else 1]
    return true


def ailing(dice: random.Random) -> Fault:
    """Answer late, and often with an error, before or after the service has acted."""

    async def behave(call: Call, cleared: asyncio.Event) -> None:
        if not await call.stays(asyncio.sleep(ANSWER_SECONDS)):
            return
        if dice.random() >= ERROR_SHARE:
            await plain(call, cleared)
            return
        if dice.random() < 0.5:
            await call.handle()
        await call.answer(Answer(500, [JSON_HEADER], b'{"detail": "overloaded"}'))

    return Fault("ailing", behave)


def prepare(platform: Platform, models: int) -> None:
    """The fleet, its traffic and its bookings; every model was called once."""
    now = int(time.time())
    for number in range(models):
        platform.add_model(name := f"model-{number:05d}")
        platform.call(name)
        if number < BOOKINGS:
            slots = [(now + 1800 * slot - 60, now + 1800 * (slot + 1) - 60) for slot in range(3)]
            platform.add_reservation(uuid4(), f"user{number}", name, slots=slots)
        if number % 10 == 0 or IDLE_SHARE * BOOKINGS <= number < BOOKINGS:
            platform.set_rate(name, BUSY_RPS if number % 100 == 0 else STEADY_RPS)
    for service in SERVICES:
        platform.fault(service, ailing(random.Random(service)))


async def main() -> int:
    """Hold the load for LOAD_SECONDS with LOAD_MODELS before LOAD_REPLICAS; returns 1 if anything is wrong."""
    seconds = float(os.environ.get("LOAD_SECONDS") or 600)
    models = int(os.environ.get("LOAD_MODELS") or 10_000)
    count = int(os.environ.get("LOAD_REPLICAS") or 1)
    with tempfile.TemporaryDirectory(prefix="rps-limiter-load-") as directory:
        async with servers() as services, Platform(saga_seconds=20) as platform:
            variables = services.environment() | platform.environment()
            variables |= {name: str(value) for name, value in SETTINGS.items()}
            await migrate(variables)
            prepare(platform, models)
            database = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
            async with notifier(services.rabbitmq_url, "notifications") as notificator:
                replicas = [Replica(f"replica-{number + 1}", variables, Path(directory)) for number in range(count)]
                load = Load(platform, replicas, database, notificator)
                try:
                    await load.run_for(seconds)
                    problems = await load.intervals() + await load.criticals() + platform.violations
                finally:
                    await asyncio.gather(*(replica.stop() for replica in replicas))
                    await database.close()
    for name, values in load.memory.items():
        print(f"memory of {name}, MB each minute: " + ", ".join(f"{value:.0f}" for value in values[::MINUTE]))
        problems += still_rising(name, values)
    answers = Counter(f"{call.service} {call.status or 'not waited for'}" for call in platform.history)
    print("answers: " + ", ".join(f"{what}: {count}" for what, count in sorted(answers.items())))
    events = ", ".join(f"{stage}: {count}" for stage, count in sorted(load.stages.items()))
    print(f"scale commands: {len(platform.commands)}, DELETEs: {len(platform.deletions)}, events: {events}")
    for problem in problems:
        print(f"BROKEN: {problem}")
    print(f"{seconds:g} s before {models} models: " + (counted(len(problems), "problem") if problems else "held"))
    return 1 if problems else 0


SLOTS = f"""SELECT extract(epoch FROM min(due_slot))::float8 AS first,
    extract(epoch FROM max(due_slot))::float8 AS last, count(DISTINCT due_slot) AS run,
    count(*) FILTER (WHERE state = 'failed') AS failed,
    coalesce(max(extract(epoch FROM ended_at - started_at)), 0)::float8 AS longest
    FROM {SCHEMA}.job_run WHERE job = $1 AND cause = 'schedule'"""  # noqa: S608 - our own name


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
