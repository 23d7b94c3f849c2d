"""`make demo`: the main job on this machine, on real servers, in about a minute."""

import asyncio
import json
import re
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.text import Text
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dev.demo_stage import DemoFailed, Notifier, Replica, migrate, notifier, servers
from dev.demo_story import BEN, CLEAN_STOP, EXPECTATIONS, NAMES, SETTINGS, Facts, Script, begin, logged, mail
from dev.demo_view import Line, View, state_of
from dev.platform import Platform
from dev.private_server import ServerFailed
from dev.processes import ServerMissing
from limiter.db import tables
from limiter.db.engine import create_engine

LONGEST = 110.0  # seconds after which the story is given up
QUIET = 8.0  # seconds that all must hold: longer than cooldown and stabilization, so that a command too many shows
SAGA_SECONDS = 2.0
FRAME = 0.25  # seconds between two looks
RATE_WINDOW = 4.0  # seconds over which the shown RPS is averaged
INTERRUPTED = 130  # the exit code of a program ended by Ctrl-C
HELD_BACK = re.compile(r'^rps_limiter_decisions_total\{decision="hold",reason="(\w+)"\} (\S+)$', re.MULTILINE)
DONE = {"warning_pending": "warning planned", "warned": "user told", "enforced": "slots cancelled"}
BARS = ("held_by_another", "booked_soon", "bookings_unreadable")  # reasons not to uninstall


async def main() -> int:
    """Run the demo; returns the exit code."""
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else sys.exit)
    view, facts = View(), None
    try:
        with view:
            facts = await _run(view)
    except (DemoFailed, ServerMissing, ServerFailed) as error:
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
        async with notifier(variables["RABBITMQ_URL"], "notifications") as ears:
            facts = begin(platform)
            replicas = [Replica(name, variables, Path(directory)) for name in ("replica-1", "replica-2")]
            try:
                await _play(view, facts, replicas, ears, engine)
            finally:
                view.phase("stopping both replicas")
                codes = await asyncio.gather(*(replica.stop() for replica in replicas))
                facts.exits = {replica.name: code for replica, code in zip(replicas, codes, strict=True)}
    return facts


async def _play(view: View, facts: Facts, replicas: list[Replica], ears: Notifier, engine: AsyncEngine) -> None:
    """Look again and again, play the users' part, until all is seen or the time is up."""
    script, announced = Script(facts), False
    view.phase("two replicas, one platform, five users")
    began = whole_since = time.monotonic()
    async with httpx.AsyncClient() as client:
        while (now := time.monotonic()) - began < LONGEST and now - whole_since < QUIET:
            view.board.elapsed = now - began
            await _check(view, replicas, client)
            if not announced and all(replica.health == "ready" for replica in replicas):
                announced = True
                for user in NAMES:
                    await ears.announce(user)
            await _tell(view, facts, script, replicas, ears)
            if facts.told(BEN, "cancelled") and not facts.held_back:
                facts.held_back = await _held_back(replicas, client)
            view.board.lines = await _lines(facts, engine)
            view.refresh()
            if not all(wish.holds(facts) for wish in EXPECTATIONS):
                whole_since = time.monotonic()
            await asyncio.sleep(FRAME)


async def _check(view: View, replicas: list[Replica], client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(replica.check(client) for replica in replicas))
    view.board.replicas = {replica.name: replica.health for replica in replicas}


async def _tell(view: View, facts: Facts, script: Script, replicas: list[Replica], ears: Notifier) -> None:
    """Show what is new: first what the replicas say they decided, then the mails that follow, then the users."""
    for replica in replicas:
        for line in replica.fresh_lines():
            if line.get("event") == "run_ended":
                view.board.last_job = f"{line['job']} ran on {replica.name}"
            if (happening := logged(line)) is not None:
                view.happened(happening)
    events = await ears.heard()
    facts.events += events
    for happening in [mail(event) for event in events] + script.play(view.board.elapsed):
        view.happened(happening)


async def _held_back(replicas: list[Replica], client: httpx.AsyncClient) -> set[str]:
    """Why a model was not uninstalled, as the replicas count it; no log line and no row says so."""
    found: set[str] = set()
    for replica in replicas:
        with suppress(httpx.HTTPError):
            page = await client.get(f"http://127.0.0.1:{replica.port}/metrics", timeout=2)
            found |= {reason for reason, times in HELD_BACK.findall(page.text) if float(times) > 0}
    return found & set(BARS)


@dataclass(frozen=True)
class _Rows:
    """The newest row of each model, by table."""

    used: dict[str, Any]
    seen: dict[str, Any]
    spells: dict[str, Any]
    commands: dict[str, Any]


async def _lines(facts: Facts, engine: AsyncEngine) -> list[Line]:
    """The models as Postgres and the platform know them now."""
    async with engine.connect() as connection:
        rows = _Rows(
            await _newest(connection, tables.usage, "last_used_at"),
            await _newest(connection, tables.sighting, "first_seen_at"),
            await _newest(connection, tables.spell, "opened_at"),
            await _newest(connection, tables.command, "planned_at"),
        )
    names = {model.name for model in facts.platform.models} | set(rows.seen) | set(rows.spells)
    return [_line(facts, name, rows, datetime.now(UTC)) for name in sorted(names)]


async def _newest(connection: AsyncConnection, table: Table, moment: str) -> dict[str, Any]:
    rows = await connection.execute(select(table).order_by(table.c[moment]))
    return {row.model_name: row for row in rows}


def _line(facts: Facts, name: str, rows: _Rows, now: datetime) -> Line:
    replicas = sum(model.replicas for model in facts.platform.models if model.name == name)
    held = [booking for booking in facts.platform.reservations if booking.model_name == name]
    spell, command = rows.spells.get(name), rows.commands.get(name)
    line = Line(name, ", ".join(dict.fromkeys(booking.user.name for booking in held)), replicas=replicas)
    line.rps = _rate(rows.used.get(name), now)
    line.idle = _idle(rows.seen.get(name), rows.used.get(name), spell, now) if held else 0.0
    line.state = state_of(spell and spell.state, line.idle, held=bool(held), runs=replicas > 0)
    if command is not None and command.finished_at is None:
        line.wanted = command.replicas
    line.last, line.why = _last(spell, command)
    return line


def _idle(seen: Any, used: Any, spell: Any, now: datetime) -> float:
    """Seconds since the last thing that excuses the user, as far as the tables tell."""
    moments = (seen and seen.first_seen_at, used and used.last_used_at, spell and spell.closed_at)
    known = [moment for moment in moments if moment]
    return max(0.0, (now - max(known)).total_seconds()) if known else 0.0


def _last(spell: Any, command: Any) -> tuple[str, str]:
    """What was done last, and the code of the reason."""
    told = [] if spell is None else [(spell.closed_at or spell.opened_at, DONE.get(spell.state, spell.state), spell)]
    if command is not None:
        target = f" to {command.replicas}" if command.replicas else ""
        told.append((command.finished_at or command.planned_at, f"{command.kind}{target}", command))
    if not told:
        return "", ""
    _, what, row = max(told, key=lambda done: (done[1] == "uninstall", done[0]))
    return what, row.reason


def _rate(used: Any, now: datetime) -> float:
    """Calls per second of late, from the samples that rps_check keeps."""
    recent = (
        [sample for sample in json.loads(used.samples) if now.timestamp() - sample[0] < RATE_WINDOW] if used else []
    )
    calls: float = sum(calls for _, _, calls in recent)
    seconds: float = sum(seconds for _, seconds, _ in recent)
    return calls / max(seconds, 1.0)


if __name__ == "__main__":
    try:
        code = asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    sys.exit(code)
