"""Which jobs are paused, and when they were last resumed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import job as jobs
from limiter.domain.job import Job


async def resumed_at(connection: AsyncConnection, *which: Job) -> datetime | None:
    """When the latest pause of these jobs ended, by the clock that decides; None if none was ever paused."""
    latest = select(func.max(jobs.c.resumed_at)).where(jobs.c.name.in_(which))
    at: datetime | None = (await connection.execute(latest)).scalar()
    return at


async def is_paused(connection: AsyncConnection, which: Job) -> bool:
    """Whether the job is paused; a pause has to wait until this transaction has ended."""
    return bool(await connection.scalar(select(jobs.c.paused).where(jobs.c.name == which).with_for_update(read=True)))


async def paused(connection: AsyncConnection) -> Sequence[Any]:
    """The jobs that are paused, each with since when, by whom and why."""
    columns = (jobs.c.name, jobs.c.paused_at, jobs.c.paused_by, jobs.c.paused_reason)
    return (await connection.execute(select(*columns).where(jobs.c.paused).order_by(jobs.c.name))).all()
