"""The audit: one row per change of decision, and what stands for each holder."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, Uuid, bindparam, column, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import decision
from limiter.domain.action import Decision, Reason
from limiter.domain.audit import Finding, standing_of
from limiter.domain.survey import Holder


async def record(connection: AsyncConnection, findings: Collection[Finding], *, dry_run: bool) -> None:
    """Write changes of decision down; each is from now on what stands for its holder."""
    if not findings:
        return
    holders = [(found.model_id, found.user_id) for found in findings if found.user_id is not None]
    if holders:
        # Arrays, not a list of values: a statement has at most 32,767 parameters, and a large fleet more holders.
        ids = [bindparam(None, list(of), type_=ARRAY(Uuid)) for of in zip(*holders, strict=True)]
        columns = (column("model_id", Uuid), column("user_id", Uuid))
        theirs = func.unnest(*ids).table_valued(*columns).render_derived(name="theirs")
        same = (decision.c.model_id == theirs.c.model_id) & (decision.c.user_id == theirs.c.user_id)
        await connection.execute(update(decision).where(decision.c.stands, same).values(stands=False))
    rows = [
        {
            "decided_at": found.at,
            "model_id": found.model_id,
            "model_name": found.model_name,
            "user_id": found.user_id,
            "decision": found.decision,
            "reason": found.reason,
            "numbers": dict(found.numbers),
            "dry_run": dry_run,
            "stands": found.user_id is not None,
        }
        for found in findings
    ]
    await connection.execute(insert(decision), rows)


async def standing(connection: AsyncConnection) -> dict[Holder, str]:
    """The last decision about each holder, and its reason."""
    columns = (decision.c.model_id, decision.c.user_id, decision.c.decision, decision.c.reason)
    latest = select(*columns).ext(distinct_on(decision.c.model_id, decision.c.user_id)).where(decision.c.stands)
    rows = await connection.execute(latest.order_by(decision.c.model_id, decision.c.user_id, decision.c.id.desc()))
    return {(row.model_id, row.user_id): standing_of(Decision(row.decision), Reason(row.reason)) for row in rows}


async def of_model(connection: AsyncConnection, name: str, limit: int) -> list[Finding]:
    """The latest changes of decision about every instance of a name and its holders, the newest first."""
    query = select(decision).where(decision.c.model_name == name).order_by(decision.c.id.desc()).limit(limit)
    return [_finding(row) for row in await connection.execute(query)]


async def forget(connection: AsyncConnection, before: datetime) -> None:
    await connection.execute(delete(decision).where(decision.c.decided_at < before))


def _finding(row: Any) -> Finding:
    return Finding(
        row.decided_at.astimezone(UTC),
        row.model_id,
        row.model_name,
        row.user_id,
        Decision(row.decision),
        Reason(row.reason),
        row.numbers,
    )
