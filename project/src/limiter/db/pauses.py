"""Which jobs are paused, and when they were last resumed."""

from datetime import datetime

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
