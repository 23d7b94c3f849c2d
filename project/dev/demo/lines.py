"""The models as the view shows them, read from Postgres and the platform."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dev.demo.board import Line, state_of
from dev.fake_platform.platform import Platform
from limiter.db import tables

RATE_WINDOW = 4.0  # seconds over which the shown RPS is averaged
DONE = {"warning_pending": "warning planned", "warned": "user told", "enforced": "slots cancelled"}


@dataclass(frozen=True)
class _Rows:
    """The newest row of each model, by table."""

    usage: dict[str, Any]
    scaling: dict[str, Any]
    spells: dict[str, Any]
    commands: dict[str, Any]
    keeps: dict[str, Any]


async def read_lines(platform: Platform, engine: AsyncEngine) -> list[Line]:
    """One line for each model that the platform or the tables know, by name."""
    async with engine.connect() as connection:
        rows = _Rows(
            usage=await _newest(connection, tables.usage, "last_used_at"),
            scaling=await _newest(connection, tables.scaling_state, "first_seen_at"),
            spells=await _newest(connection, tables.idle_spell, "opened_at"),
            commands=await _newest(connection, tables.command, "planned_at"),
            keeps=await _newest(connection, tables.keep, "until"),
        )
    names = {model.name for model in platform.models} | set(rows.scaling) | set(rows.spells)
    return [_line(platform, name, rows, datetime.now(UTC)) for name in sorted(names)]


async def _newest(connection: AsyncConnection, table: Table, moment: str) -> dict[str, Any]:
    rows = await connection.execute(select(table).order_by(table.c[moment]))
    return {row.model_name: row for row in rows}


def _line(platform: Platform, name: str, rows: _Rows, now: datetime) -> Line:
    replicas = sum(model.replicas for model in platform.models if model.name == name)
    bookings = [booking for booking in platform.reservations if booking.model_name == name]
    spell, command, usage = rows.spells.get(name), rows.commands.get(name), rows.usage.get(name)
    line = Line(name, ", ".join(dict.fromkeys(booking.user.name for booking in bookings)), replicas=replicas)
    line.rps = _rate(usage, now)
    kept = name in rows.keeps and rows.keeps[name].until > now
    line.idle = _idle(rows.scaling.get(name), usage, spell, now) if bookings and not kept else 0.0
    line.state = state_of(spell and spell.state, line.idle, booked=bool(bookings), runs=replicas > 0, kept=kept)
    if command is not None and command.finished_at is None:
        line.wanted = command.replicas
    line.last, line.why = _last_act(spell, command)
    return line


def _idle(scaling: Any, usage: Any, spell: Any, now: datetime) -> float:
    """Seconds since the latest moment from which idle time counts, as far as the tables know it."""
    moments = (scaling and scaling.first_seen_at, usage and usage.last_used_at, spell and spell.closed_at)
    known = [moment for moment in moments if moment]
    return max(0.0, (now - max(known)).total_seconds()) if known else 0.0


def _last_act(spell: Any, command: Any) -> tuple[str, str]:
    """What was done last to the model, and the code of the reason."""
    acts = [] if spell is None else [(spell.closed_at or spell.opened_at, DONE.get(spell.state, spell.state), spell)]
    if command is not None:
        target = f" to {command.replicas}" if command.replicas else ""
        acts.append((command.finished_at or command.planned_at, f"{command.kind}{target}", command))
    if not acts:
        return "", ""
    _, what, row = max(acts, key=lambda act: (act[1] == "uninstall", act[0]))
    return what, row.reason


def _rate(usage: Any, now: datetime) -> float:
    """Calls per second over the last `RATE_WINDOW`, from the samples that rps_check keeps."""
    samples = json.loads(usage.samples) if usage else []
    recent = [sample for sample in samples if now.timestamp() - sample[0] < RATE_WINDOW]
    calls: float = sum(calls for _, _, calls in recent)
    seconds: float = sum(seconds for _, seconds, _ in recent)
    return calls / max(seconds, 1.0)
