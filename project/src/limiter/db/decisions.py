"""The audit: one row per change of decision, and what stands for each holder."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import decision
from limiter.domain.action import Decision, Reason
from limiter.domain.audit import Finding
from limiter.domain.survey import Holder


async def record(connection: AsyncConnection, findings: Collection[Finding], *, dry_run: bool) -> None:
    """Write changes of decision down; each is from now on what stands for its holder."""
    if not findings:
        return
    holders = {(found.model_id, found.user_id) for found in findings if found.user_id is not None}
    if holders:
        theirs = tuple_(decision.c.model_id, decision.c.user_id).in_(holders)
        await connection.execute(update(decision).where(decision.c.stands, theirs).values(stands=False))
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
    return {(row.model_id, row.user_id): f"{row.decision}:{row.reason}" for row in rows}


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
