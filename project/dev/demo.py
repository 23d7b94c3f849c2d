"""`make demo`: the main job on this machine, on real servers, in about two minutes."""

import asyncio
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.demo_stage import DemoFailed, Notifier, Replica, migrate, notifier, servers
from dev.demo_story import EXPECTATIONS, NAMES, SETTINGS, Facts, Script, begin
from dev.demo_view import Line, View
from dev.platform import Platform
from dev.processes import ServerMissing
from limiter.db import tables
from limiter.db.engine import create_engine

LONGEST = 150.0  # seconds after which the story is given up
SAGA_SECONDS = 2.0
FRAME = 0.25  # seconds between two looks
TOLD = ("decided", "enforced", "command_ended", "critical")


async def main() -> int:
    """Run the demo; returns the exit code."""
    with View() as view:
        try:
            view.phase("starting private Postgres, pgbouncer and RabbitMQ")
            async with servers() as services, Platform(saga_seconds=SAGA_SECONDS) as platform:
                variables = {"DATABASE_SCHEMA": "demo", "CLOCK_SKEW_LIMIT_SECONDS": "0"}
                variables |= services.environment() | platform.environment()
                variables |= {name: str(value) for name, value in SETTINGS.items()}
                view.phase("alembic upgrade head")
                await migrate(variables)
                facts, exits = await _perform(view, platform, variables)
        except (DemoFailed, ServerMissing) as error:
            view.console.print(f"[bold red]The demo cannot go on:[/] {error}")
            return 1
    return 0 if view.summary(facts, exits) else 1


async def _perform(view: View, platform: Platform, variables: dict[str, str]) -> tuple[Facts, dict[str, int]]:
    engine = create_engine(variables["DATABASE_URL"], variables["DATABASE_SCHEMA"], 2, 10)
    with tempfile.TemporaryDirectory(prefix="rps-limiter-demo-") as directory:
        async with notifier(variables["RABBITMQ_URL"], "notifications") as ears:
            facts = begin(platform)
            replicas = [Replica(name, variables, Path(directory)) for name in ("replica-1", "replica-2")]
            try:
                await _play(view, facts, replicas, ears, engine)
            finally:
                view.phase("stopping both replicas")
                exits = {replica.name: await replica.stop() for replica in replicas}
    await engine.dispose()
    return facts, exits


async def _play(view: View, facts: Facts, replicas: list[Replica], ears: Notifier, engine: AsyncEngine) -> None:
    """Look again and again, play the users' part, until all is seen or the time is up."""
    began, script, announced = time.monotonic(), Script(facts), False
    view.phase("two replicas, one platform, five users")
    async with httpx.AsyncClient() as client:
        while (elapsed := time.monotonic() - began) < LONGEST:
            view.board.elapsed = elapsed
            for replica in replicas:
                await replica.check(client)
            view.board.replicas = {replica.name: replica.health for replica in replicas}
            if not announced and all(replica.health == "ready" for replica in replicas):
                announced = True
                for user in NAMES:
                    await ears.announce(user)
            facts.events += await _tell(view, ears)
            for model, what in script.play(elapsed) + _logged(replicas):
                view.happened(model, what)
            view.board.lines = await _lines(facts, engine)
            view.refresh()
            if all(wish.holds(facts) for wish in EXPECTATIONS):
                return
            await asyncio.sleep(FRAME)


async def _tell(view: View, ears: Notifier) -> list[dict[str, Any]]:
    events = await ears.heard()
    for event in events:
        told = event["reservation"]
        more = f", {len(told['cancelled_slots'])} slots cancelled" if told["cancelled_slots"] else ""
        more += ", model uninstalled" if told["uninstalled"] else ""
        view.happened(told["model_name"], f"mail to {event['user']['email']}: {told['stage']}{more}")
    return events


def _logged(replicas: list[Replica]) -> list[tuple[str, str]]:
    """What the replicas say they decided and why, in the words of their logs."""
    found = []
    for replica in replicas:
        for line in replica.fresh_lines():
            if line.get("event") in TOLD and line.get("model"):
                why = f" ({line['reason']})" if line.get("reason") else ""
                said = str(line["message"]).replace(f" of {line['model']}", "")
                found.append((line["model"], f"{said}{why}"))
    return found


async def _lines(facts: Facts, engine: AsyncEngine) -> list[Line]:
    """The models as Postgres and the platform know them now."""
    async with engine.connect() as connection:
        used = {row.model_name: row for row in await connection.execute(select(tables.usage))}
        seen = {row.model_name: row for row in await connection.execute(select(tables.sighting))}
        spells = {
            row.model_name: row
            for row in await connection.execute(select(tables.spell).order_by(tables.spell.c.opened_at))
        }
        sent = {
            row.model_name: row
            for row in await connection.execute(select(tables.command).order_by(tables.command.c.planned_at))
        }
    names = {exchange.name: None for exchange in facts.platform.models} | dict.fromkeys(seen) | dict.fromkeys(spells)
    return [
        _line(facts, name, used.get(name), seen.get(name), spells.get(name), sent.get(name)) for name in sorted(names)
    ]


def _line(facts: Facts, name: str, used: Any, seen: Any, spell: Any, command: Any) -> Line:
    running = next((model for model in facts.platform.models if model.name == name), None)
    held = [reservation for reservation in facts.platform.reservations if reservation.model_name == name]
    now = datetime.now(UTC)
    line = Line(name, ", ".join(dict.fromkeys(booking.user.name for booking in held)), runs=running is not None)
    line.replicas = running.replicas if running else 0
    if command is not None:
        unfinished = command.finished_at is None
        line.wanted = command.replicas if unfinished and command.kind != "uninstall" else None
        line.last = f"{command.kind} {'to ' + str(command.replicas) + ' ' if command.replicas else ''}{command.reason}"
    if seen is not None:
        since = max(moment for moment in (seen.first_seen_at, used and used.last_used_at) if moment)
        line.idle = max(0.0, (now - since).total_seconds()) if held else 0.0
    if spell is not None:
        line.state = spell.state
        line.last = line.last if spell.state == "enforced" and command is not None else spell.reason
    line.rps = _rate(used, now)
    return line


def _rate(used: Any, now: datetime) -> float:
    """Calls per second over the last few seconds, from the samples that rps_check keeps."""
    recent = [sample for sample in json.loads(used.samples) if now.timestamp() - sample[0] < 4] if used else []
    calls: float = sum(calls for _, _, calls in recent)
    seconds: float = sum(seconds for _, seconds, _ in recent)
    return calls / max(seconds, 1.0)


if __name__ == "__main__":
    try:
        code = asyncio.run(main())
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
