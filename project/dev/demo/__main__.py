"""`make demo`: the main job on this machine, on real servers, in about a minute."""

import asyncio
import math
import re
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.demo.expectations import CLEAN_STOP, EXPECTATIONS
from dev.demo.lines import read_lines
from dev.demo.notifier import Notifier, notifier
from dev.demo.story import BEN, NAMES, SETTINGS, Facts, Script, begin, logged, mail
from dev.demo.view import View
from dev.fake_platform.platform import Platform
from dev.servers.private_server import ServerFailed
from dev.servers.processes import ServerMissing
from dev.servers.replica import Replica, ReplicaFailed, migrate, servers
from limiter.db.engine import create_engine

LONGEST = 110.0  # seconds after which the demo gives up
QUIET = 8.0  # seconds for which all must hold: beyond cooldown and stabilization, so that a surplus command shows
SAGA_SECONDS = 2.0
FRAME = 0.25  # seconds between two frames of the view
INTERRUPTED = 130  # the exit code of a program ended by Ctrl-C
HELD_BACK = re.compile(r'^rps_limiter_decisions_total\{decision="hold",reason="(\w+)"\} (\S+)$', re.MULTILINE)
UNINSTALL_BLOCKERS = ("held_by_another", "booked_soon", "bookings_unreadable")


async def main() -> int:
    """Run the demo; returns the exit code: 0 if every expectation holds, else 1."""
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else sys.exit)
    view, facts = View(), None
    try:
        with view:
            facts = await _run(view)
    except (ReplicaFailed, ServerMissing, ServerFailed) as error:
        view.console.print(Text(f"The demo cannot go on: {error}", "red"), soft_wrap=True)
        return 1
    return 0 if view.summary(facts, (*EXPECTATIONS, CLEAN_STOP)) else 1


async def _run(view: View) -> Facts:
    view.phase("starting private Postgres, pgbouncer and RabbitMQ")
    async with servers() as services, Platform(saga_seconds=SAGA_SECONDS) as platform:
        variables = {"DATABASE_SCHEMA": "demo", "CLOCK_SKEW_LIMIT_SECONDS": "0"}
        variables |= services.environment() | platform.environment()
        variables |= {name: str(value) for name, value in SETTINGS.items()}
        view.phase("alembic upgrade head")
        await migrate(variables)
        engine = create_engine(variables["DATABASE_URL"], variables["DATABASE_SCHEMA"], 2, 10)
        try:
            return await _perform(view, platform, variables, engine)
        finally:
            await engine.dispose()


async def _perform(view: View, platform: Platform, variables: dict[str, str], engine: AsyncEngine) -> Facts:
    with tempfile.TemporaryDirectory(prefix="rps-limiter-demo-") as directory:
        async with notifier(variables["RABBITMQ_URL"], "notifications") as notificator:
            facts = begin(platform)
            replicas = [Replica(name, variables, Path(directory)) for name in ("replica-1", "replica-2")]
            try:
                await _play(view, facts, replicas, notificator, engine)
            finally:
                view.phase("stopping both replicas")
                codes = await asyncio.gather(*(replica.stop() for replica in replicas))
                facts.exits = {replica.name: code for replica, code in zip(replicas, codes, strict=True)}
    return facts


async def _play(view: View, facts: Facts, replicas: list[Replica], notificator: Notifier, engine: AsyncEngine) -> None:
    """Play the users' part and refresh the view, until every expectation has held for `QUIET` or time is up."""
    script, ready_at = Script(facts), math.inf
    view.phase("two replicas, one platform, five users")
    began = whole_since = time.monotonic()
    async with httpx.AsyncClient() as client:
        while (now := time.monotonic()) - began < LONGEST and now - whole_since < QUIET:
            view.board.elapsed = now - began
            await _check(view, replicas, client)
            if ready_at == math.inf and all(replica.health == "ready" for replica in replicas):
                ready_at = view.board.elapsed
                for user in NAMES:
                    await notificator.announce(user)
            await _show_news(view, facts, replicas, notificator)
            for happening in script.play(view.board.elapsed - ready_at):
                view.happened(happening)
            if facts.event(BEN, "cancelled") and not facts.held_back:
                facts.held_back = await _held_back(replicas, client)
            view.board.lines = await read_lines(facts.platform, engine)
            view.refresh()
            if not all(expectation.is_met(facts) for expectation in EXPECTATIONS):
                whole_since = time.monotonic()
            await asyncio.sleep(FRAME)


async def _check(view: View, replicas: list[Replica], client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(replica.check(client) for replica in replicas))
    view.board.replicas = {replica.name: replica.health for replica in replicas}


async def _show_news(view: View, facts: Facts, replicas: list[Replica], notificator: Notifier) -> None:
    """Show what is new: first what the replicas log, then the mails that follow from it."""
    for replica in replicas:
        for line in replica.fresh_lines():
            if line.get("event") == "run_ended":
                view.board.last_job = f"{line['job']} ran on {replica.name}"
            if (happening := logged(line)) is not None:
                view.happened(happening)
    events = await notificator.received()
    facts.events += events
    for event in events:
        view.happened(mail(event))


async def _held_back(replicas: list[Replica], client: httpx.AsyncClient) -> set[str]:
    """The reasons for not uninstalling a model that the replicas' metrics have counted."""
    found: set[str] = set()
    for replica in replicas:
        with suppress(httpx.HTTPError):
            page = await client.get(f"http://127.0.0.1:{replica.port}/metrics", timeout=2)
            found |= {reason for reason, times in HELD_BACK.findall(page.text) if float(times) > 0}
    return found & set(UNINSTALL_BLOCKERS)


if __name__ == "__main__":
    try:
        code = asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    sys.exit(code)
