"""`make demo`: the main job on this machine, on real servers, in about a minute and a half."""

import asyncio
import math
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.demo.control import Control
from dev.demo.expectations import CLEAN_STOP, EXPECTATIONS
from dev.demo.facts import Facts
from dev.demo.happenings import Happening, logged, mail
from dev.demo.lines import read_lines
from dev.demo.notifier import Notifier, notifier
from dev.demo.script import Script
from dev.demo.story import KEPT, NAMES, SETTINGS, begin, hang_in_the_middle
from dev.demo.takeover import Takeover
from dev.demo.view import View
from dev.fake_platform.platform import Platform
from dev.servers.private_server import ServerFailed
from dev.servers.processes import ServerMissing
from dev.servers.replica import Replica, ReplicaFailed, migrate, servers
from dev.wording import counted
from limiter.db.engine import create_engine

LONGEST = 120.0  # seconds after which the demo gives up
QUIET = 8.0  # seconds for which all must hold: beyond cooldown and stabilization, so that a surplus command shows
SAGA_SECONDS = 2.0
FRAME = 0.25  # seconds between two frames of the view
INTERRUPTED = 130  # the exit code of a program ended by Ctrl-C


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
            facts, control = begin(platform), Control(variables["RABBITMQ_URL"])
            start = partial(Replica, variables=variables, directory=Path(directory))
            replicas = [start("replica-1"), start("replica-2")]
            takeover = Takeover(facts, replicas, start, hang_in_the_middle(facts))
            try:
                await _play(Stage(view, facts, replicas, takeover, notificator, control), engine)
            finally:
                view.phase("stopping both replicas")
                codes = await asyncio.gather(*(replica.stop() for replica in replicas))
                facts.exits = {replica.name: code for replica, code in zip(replicas, codes, strict=True)}
    return facts


@dataclass(frozen=True)
class Stage:
    """Everything that takes part in the demo."""

    view: View
    facts: Facts
    replicas: list[Replica]
    takeover: Takeover
    notificator: Notifier
    control: Control


async def _play(stage: Stage, engine: AsyncEngine) -> None:
    """Play the users' part and refresh the view, until every expectation has held for `QUIET` or time is up."""
    view, facts, ready_at = stage.view, stage.facts, math.inf
    script = Script(facts, stage.control.send)
    view.phase(f"two replicas, one platform, {counted(len(NAMES), 'user')}")
    began = whole_since = time.monotonic()
    async with httpx.AsyncClient() as client:
        while (now := time.monotonic()) - began < LONGEST and now - whole_since < QUIET:
            view.board.elapsed = now - began
            await asyncio.gather(*(replica.check(client) for replica in stage.replicas))
            view.board.replicas = {replica.name: replica.health for replica in stage.replicas}
            if ready_at == math.inf and all(replica.health == "ready" for replica in stage.replicas):
                ready_at = view.board.elapsed
                for user in NAMES:
                    await stage.notificator.announce(user)
            await _show_news(stage)
            for happening in script.play(view.board.elapsed - ready_at) + await stage.takeover.play():
                view.happened(happening)
            view.board.lines = await read_lines(facts.platform, engine)
            view.refresh()
            if not all(expectation.is_met(facts) for expectation in EXPECTATIONS):
                whole_since = time.monotonic()
            await asyncio.sleep(FRAME)


async def _show_news(stage: Stage) -> None:
    """Show what is new: first what the replicas log, then the replies and mails that follow from it."""
    for replica in stage.replicas:
        for line in replica.fresh_lines():
            stage.facts.note(replica.name, line)
            stage.takeover.note(replica.name, line)
            if line.get("event") == "run_ended":
                stage.view.board.last_job = f"{line['job']} ran on {replica.name}"
            if (happening := logged(line)) is not None:
                stage.view.happened(happening)
    for reply in stage.control.replies():
        stage.view.happened(Happening("keep", KEPT, reply))
    events = await stage.notificator.received()
    stage.facts.events += events
    for event in events:
        stage.view.happened(mail(event))


if __name__ == "__main__":
    try:
        code = asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    sys.exit(code)
