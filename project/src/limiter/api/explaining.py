"""The answer to `explain`: what stands for a model, why, and what is under way for it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import decisions, idle_spells, keeps, ledger, pauses, scaling_states
from limiter.domain.audit import duration, explanation
from limiter.domain.command import Command
from limiter.domain.idle_spell import IdleSpell, Step
from limiter.domain.keep import Keep
from limiter.logs.lines import printable

MOST_SLOTS = 10  # of a spell, shown in its line


async def explain(connection: AsyncConnection, model: str, at: datetime, most: int) -> str | None:
    """All that is known about a model by its name, now or then, at most so many lines of each kind; else None."""
    records = await decisions.for_model(connection, model, most)
    running = await scaling_states.running(connection, {record.model_id for record, _ in records})
    kept = await keeps.in_force(connection, model, at, most)
    spells = await idle_spells.open_spells_of(connection, model)
    commands = await ledger.unfinished_for(connection, model, most)
    sections = [
        explanation(records, running) if records else [],
        _section("keeps in force:", map(_keep, kept)),
        _section("open spells:", map(_spell, spells[:most])),
        _section("unfinished commands:", (_command(one, at) for one in commands)),
    ]
    if any(sections):  # what stands is as old as the pause of the job that would find out
        sections.append(_section("paused, for every model:", map(_pause, await pauses.paused(connection))))
    return "\n".join(printable(line) for section in sections for line in section) or None


def _section(title: str, lines: Iterable[str]) -> list[str]:
    """A title with its lines; nothing if there are none."""
    found = list(lines)
    return [title, *found] if found else []


def _keep(keep: Keep) -> str:
    whose = f"user {keep.user_id}" if keep.user_id else "every user"
    why = f": {keep.reason}" if keep.reason else ""
    return f"{whose}, {moment(keep.since)} to {moment(keep.until)}, by {keep.by or 'somebody unnamed'}{why}"


def _pause(row: Any) -> str:
    since = moment(row.paused_at.astimezone(UTC)) if row.paused_at else "no time that is known"
    return f"{row.name} since {since}, by {row.paused_by or 'somebody'}: {row.paused_reason or 'no reason given'}"


def _spell(spell: IdleSpell) -> str:
    delivered = f"warned {moment(spell.delivered_at)}" if spell.delivered_at else "the warning is not delivered yet"
    more = f" and {len(spell.steps) - MOST_SLOTS} more" if len(spell.steps) > MOST_SLOTS else ""
    slots = ", ".join(map(_step, spell.steps[:MOST_SLOTS])) or "none"
    return (
        f"model {spell.model_id}, user {spell.user.id}: {spell.state}, unused since {moment(spell.idle_since)}, "
        f"{delivered}, cancelling not before {moment(spell.not_before)}, slots: {slots}{more}"
    )


def _step(step: Step) -> str:
    return f"{moment(step.slot.start)} to {moment(step.slot.end)} {step.state}"


def _command(command: Command, at: datetime) -> str:
    what = str(command.kind) if command.wanted is None else f"{command.kind} to {command.wanted}"
    sent = f"sent {duration((at - command.sent_at).total_seconds())} ago" if command.sent_at else "not sent yet"
    age = duration((at - command.planned_at).total_seconds())
    saga = f", saga {command.saga_id}" if command.saga_id else ""
    return f"model {command.model_id}: {what}, {command.state}, planned {age} ago, {sent}{saga}"


def moment(at: datetime) -> str:
    """A moment as explanations and replies show it, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S}"
