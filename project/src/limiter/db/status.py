"""What stands now, for the status page: short statements over open rows and small tables."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, any_, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.bulk import texts
from limiter.db.decisions import record_of
from limiter.db.due import due_at, due_if_delivered
from limiter.db.tables import (
    cancellation,
    command,
    decision,
    idle_spell,
    job,
    job_run,
    outbox,
    scaling_state,
    surge,
    target,
)
from limiter.db.tables import usage as used
from limiter.db.waiting_events import HELD_BACK
from limiter.domain.audit import DecisionRecord
from limiter.domain.command import UNFINISHED
from limiter.domain.decision import Reason
from limiter.domain.idle_spell import OPEN_STATES, StepState
from limiter.domain.policy import Policy
from limiter.domain.surge import SurgeKind

Row = Mapping[str, Any]


async def jobs(connection: AsyncConnection) -> Sequence[Row]:
    """Each job with its last run."""
    # One look into the index for each job: the runs of a week are hundreds of thousands.
    newest = select(job_run).where(job_run.c.job == job.c.name).order_by(job_run.c.epoch.desc())
    last = newest.limit(1).lateral("last")
    columns = [last.c[name] for name in ("state", "cause", "started_at", "ended_at", "replica_id", "error")]
    query = select(job, *columns).outerjoin(last, true()).order_by(job.c.name)
    return await _rows(connection, query)


async def who_is_next(connection: AsyncConnection, limit: int, policy: Policy, now: datetime) -> Sequence[Row]:
    """The open spells, the nearest deadline first, with how many named slots are left and when they are.

    Their `not_before` is the deadline as it stands under this policy.
    """
    is_open = idle_spell.c.state.in_(OPEN_STATES)
    left = cancellation.c.state.in_((StepState.NAMED, StepState.PLANNED))
    named = (
        select(
            cancellation.c.spell_id,
            func.count().label("slots"),
            func.min(cancellation.c.slot_start).label("first_start"),
            func.max(cancellation.c.slot_end).label("last_end"),
        )
        .where(left, cancellation.c.spell_id.in_(select(idle_spell.c.id).where(is_open)))
        .group_by(cancellation.c.spell_id)
        .subquery("named")
    )
    names = ("user_name", "model_name", "state", "idle_since", "delivered_at", "dry_run", "reason")
    query = select(*(idle_spell.c[name] for name in names), func.coalesce(named.c.slots, 0).label("slots"))
    query = query.add_columns(due_at(policy).label("not_before"), named.c.first_start, named.c.last_end)
    query = query.outerjoin(named, named.c.spell_id == idle_spell.c.id).where(is_open)
    return await _rows(connection, query.order_by(due_if_delivered(policy, now), idle_spell.c.id).limit(limit))


async def surges(connection: AsyncConnection, limit: int) -> Sequence[Row]:
    """The surges that stand, and some users whom one of warnings holds back; those of another have open spells."""
    found = await _rows(connection, select(surge).order_by(surge.c.kind))
    return [row | await _held(connection, row, limit) for row in found]


async def _held(connection: AsyncConnection, of: Row, limit: int) -> dict[str, Any]:
    if of["kind"] != SurgeKind.WARNING or of["allowed_at"] is not None:
        return {"held": [], "held_total": 0}
    names = ("user_id", "model_name", "decided_at")
    since = and_(decision.c.stands, decision.c.reason == Reason.SURGE, decision.c.decided_at >= of["since"])
    some = select(*(decision.c[name] for name in names)).where(since).order_by(*names).limit(limit)
    total = await connection.scalar(select(func.count()).select_from(decision).where(since))
    return {"held": await _rows(connection, some), "held_total": total}


async def models(connection: AsyncConnection, limit: int, offset: int) -> Sequence[Row]:
    """The observed models by name, with their recent calls, and the `record` of the last decision about each."""
    names = ("model_name", "replicas", "standing", "first_seen_at", "overloaded_since", "underused_since")
    some = select(*(scaling_state.c[name] for name in ("model_id", *names)))
    some = some.order_by(scaling_state.c.model_name, scaling_state.c.model_id).limit(limit).offset(offset)
    page = some.subquery("page")
    about = and_(decision.c.model_name == page.c.model_name, decision.c.model_id == page.c.model_id)
    newest = select(decision).where(about, decision.c.user_id.is_(None)).order_by(decision.c.id.desc()).limit(1)
    last = newest.lateral("last")
    why = [last.c[name] for name in ("decided_at", "model_id", "user_id", "decision", "reason", "numbers")]
    query = select(*(page.c[name] for name in names), used.c.last_used_at, used.c.samples, *why)
    query = query.outerjoin(used, used.c.model_name == page.c.model_name).outerjoin(last, true())
    found = await connection.execute(query.order_by(page.c.model_name, page.c.model_id))
    return [row._asdict() | {"record": record_of(row) if row.decision else None} for row in found]


async def commands(connection: AsyncConnection, limit: int) -> Sequence[Row]:
    """The unfinished commands, the oldest first."""
    names = ("model_name", "kind", "replicas", "state", "reason", "planned_at", "sent_at", "saga_id", "error")
    query = select(*(command.c[name] for name in names)).where(command.c.state.in_(UNFINISHED))
    return await _rows(connection, query.order_by(command.c.planned_at).limit(limit))


async def targets(connection: AsyncConnection, configured: Collection[str]) -> Sequence[Row]:
    """The metrics pages that are configured, as they were last read well; one that never was has no `read_at`."""
    names = ("target", "read_at", "rate", "silent", "stale")
    query = select(*(target.c[name] for name in names)).where(target.c.target == any_(texts(configured)))
    found = {row["target"]: row for row in await _rows(connection, query)}
    never: Row = {"read_at": None, "rate": None, "silent": False, "stale": False}
    return [found.get(name) or {"target": name, **never} for name in sorted(configured)]


async def events(connection: AsyncConnection, limit: int) -> Sequence[Row]:
    """The events that the broker has not confirmed, the oldest first."""
    names = ("stage", "routing_key", "attempts", "next_attempt_at", "error")
    query = select(*(outbox.c[name] for name in names)).where(outbox.c.published_at.is_(None))
    return await _rows(connection, query.order_by(outbox.c.sequence).limit(limit))


async def events_total(connection: AsyncConnection) -> int:
    """How many there are; those that the quiet hours hold back, which wake nobody, are among them."""
    return int(await connection.scalar(select(func.count()).where(outbox.c.published_at.is_(None))) or 0)


async def last_event(connection: AsyncConnection) -> tuple[str | None, datetime | None]:
    """What keeps the oldest waiting event, None if none was refused; and when the last one reached a queue.

    What we hold back ourselves, as in the quiet hours, was not refused.
    """
    refused = select(outbox.c.error).where(outbox.c.published_at.is_(None), ~outbox.c.error.startswith(HELD_BACK))
    error = await connection.scalar(refused.order_by(outbox.c.sequence).limit(1))
    return error, await connection.scalar(select(func.max(outbox.c.published_at)))


async def last_decisions(connection: AsyncConnection, limit: int) -> list[tuple[DecisionRecord, bool]]:
    """The last decisions, the newest first, and whether each was of a dry run."""
    found = await connection.execute(select(decision).order_by(decision.c.id.desc()).limit(limit))
    return [(record_of(row), row.dry_run) for row in found]


async def _rows(connection: AsyncConnection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]
