"""A scripted platform with two replicas of the service: what happens in it is known."""

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import asyncpg

from dev.demo.notifier import Notifier, notifier
from dev.fake_platform.platform import Platform
from dev.servers.replica import Replica, migrate, servers
from limiter.ctl.asking import ask

SCHEMA, RUNS, CONTROL = "dashboards", "dashboards.job_run", "rps_limiter.control"
DEPLOYED = "rps_limiter.models_deployed"
STEADY, BUSY, FORGOTTEN, NEXT = "steady", "busy", "forgotten", "next"
STEADY_RPS, BUSY_RPS = 12.0, 80.0
MOST, BUDGET = 4, 12  # replicas: of a model, and of all
LIMIT, LEAD = 20, 8  # seconds; the model `next` has LIMIT_OF_NEXT
LIMIT_OF_NEXT = 600
LONGEST = 150.0  # seconds until everything has happened
ANN = "00000000-0000-0000-0000-0000000000a1"

SETTINGS = {
    "DATABASE_SCHEMA": SCHEMA,
    "RPS_CHECK_INTERVAL_SECONDS": 1,
    "IDLE_WARNING_INTERVAL_SECONDS": 2,
    "IDLE_ENFORCE_INTERVAL_SECONDS": 2,
    "SAGA_POLL_INTERVAL_SECONDS": 1,
    "EVENT_DISPATCH_INTERVAL_SECONDS": 0.5,
    "SCALE_UP_WINDOW_SECONDS": 5,
    "SCALE_UP_STABILIZATION_SECONDS": 2,
    "SCALE_DOWN_STABILIZATION_SECONDS": 3600,
    "SCALE_COOLDOWN_SECONDS": 2,
    "SCALE_BURST_FACTOR": 0,  # else it depends on the moment whether the load counts as a burst
    "SCALE_MAX_REPLICAS": MOST,
    "SCALE_FLEET_MAX_REPLICAS": BUDGET,
    "IDLE_LIMIT_SECONDS": LIMIT,
    "IDLE_WARNING_LEAD_SECONDS": LEAD,
    "UNINSTALL_ON_IDLE": "true",
    "POLICY_OVERRIDES": json.dumps(
        {NEXT: {"idle_limit_seconds": LIMIT_OF_NEXT, "idle_warning_lead_seconds": LIMIT_OF_NEXT - LEAD}}
    ),
    "USER_EMAIL_TEMPLATE": "{user_name}@example.org",
    "METRICS_PER_MODEL": "true",
}


@dataclass
class Scene:
    """What takes part; `began` in Unix seconds."""

    platform: Platform
    replicas: list[Replica]
    notificator: Notifier
    database: asyncpg.Connection
    rabbitmq_url: str
    directory: Path
    began: float
    stages: Counter[str] = field(default_factory=Counter)
    unscraped: Counter[str] = field(default_factory=Counter)  # calls of which Prometheus may not know

    @property
    def instances(self) -> list[str]:
        """The replicas as Prometheus names them."""
        return [f"127.0.0.1:{replica.port}" for replica in self.replicas]

    def calls(self) -> Counter[str]:
        """How many calls were answered well so far, by service."""
        good = (call for call in self.platform.history if call.status and call.status < 400)
        return Counter(f"{call.service} ok" for call in good)

    async def ready(self) -> None:
        """Wait until every replica has what it needs."""
        async with asyncio.timeout(30):
            for replica in self.replicas:
                while not await replica.is_ready():
                    await asyncio.sleep(0.1)

    async def runs(self) -> dict[str, int]:
        """How many runs of each job ended, by job and outcome."""
        found = await self.database.fetch(f"SELECT job, state FROM {RUNS} WHERE state <> 'running'")  # noqa: S608
        return Counter(f"{job} {state}" for job, state in found)

    async def missed(self) -> dict[str, int]:
        """How many due slots of each job nobody ran, by the slots that were run."""
        # event_dispatch only runs when there is something to send, so its slots may pass.
        of = "cause = 'schedule' AND job <> 'event_dispatch'"
        runs = await self.database.fetch(f"SELECT job, due_slot FROM {RUNS} WHERE {of} ORDER BY due_slot")  # noqa: S608
        found: dict[str, int] = {}
        last: dict[str, float] = {}
        for job, due in runs:
            at, interval = due.timestamp(), float(str(SETTINGS.get(f"{job.upper()}_INTERVAL_SECONDS", 3600)))
            found[job] = found.get(job, 0) + max(0, round((at - last.get(job, at)) / interval) - 1)
            last[job] = at
        return found

    async def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait for something to happen; raises TimeoutError that names it."""
        try:
            async with asyncio.timeout(LONGEST - (time.time() - self.began)):
                while not condition():
                    self.stages.update(event["reservation"]["stage"] for event in await self.notificator.received())
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(f"did not happen within {LONGEST:g} s: {what}") from None


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Servers, platform and two replicas; nothing has happened yet."""
    with tempfile.TemporaryDirectory(prefix="rps-limiter-dashboards-") as directory:
        async with servers() as services, Platform() as platform:
            variables = services.environment() | platform.environment()
            variables |= {name: str(value) for name, value in SETTINGS.items()}
            await migrate(variables)
            database = await asyncpg.connect(services.direct_database_url.replace("+asyncpg", ""))
            async with notifier(services.rabbitmq_url, "notifications") as notificator:
                _prepare(platform)
                replicas = [Replica(name, variables, Path(directory)) for name in ("replica-1", "replica-2")]
                try:
                    yield Scene(
                        platform,
                        replicas,
                        notificator,
                        database,
                        services.rabbitmq_url,
                        Path(directory),
                        time.time(),
                    )
                finally:
                    await asyncio.gather(*(replica.stop() for replica in replicas))
                    await database.close()


def _prepare(platform: Platform) -> None:
    for name, replicas in ((STEADY, 2), (BUSY, 1), (FORGOTTEN, 2), (NEXT, 1)):
        platform.add_model(name, replicas=replicas)
        platform.call(name)
    now = int(time.time())
    for name in (FORGOTTEN, NEXT):
        slots = [(now + 60 * start, now + 60 * (start + 15)) for start in (-1, 14, 29)]
        platform.add_reservation(ANN, "ann", name, slots=slots)
    platform.set_rate(STEADY, STEADY_RPS)


async def play(scene: Scene) -> None:
    """Let everything happen: a restart of Entrypoint, a scaling, a warning, a cancelling, dead letters, a pause."""
    platform = scene.platform
    before = _readings(platform)
    await scene.until("three more readings of both pages", lambda: _readings(platform) >= before + 6)
    platform.restart_entrypoint(0)
    await scene.until("three readings after the restart", lambda: _readings(platform) >= before + 12)
    platform.set_rate(BUSY, BUSY_RPS)
    await _send(scene, CONTROL, b"?")
    await _send(scene, DEPLOYED, b"?")
    await scene.until("busy has its replicas", lambda: _replicas(platform, BUSY) == MOST)
    await scene.until("the following slots are cancelled", lambda: len(platform.deletions) == 2)
    await scene.until("the model is uninstalled", lambda: _replicas(platform, FORGOTTEN) == 0)
    await scene.until("the cancelling is told", lambda: scene.stages["cancelled"] == 1)
    reply = await ask(
        scene.rabbitmq_url,
        CONTROL,
        {"command": "pause_job", "job": "idle_enforce", "by": "ann", "reason": "a look"},
        10,
    )
    assert reply["outcome"] == "paused", reply


def _readings(platform: Platform) -> int:
    return sum(exchange.service == "entrypoint" for exchange in platform.history)


def _replicas(platform: Platform, name: str) -> int:
    return sum(model.replicas for model in platform.models if model.name == name)


async def _send(scene: Scene, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(scene.rabbitmq_url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(body), queue)
