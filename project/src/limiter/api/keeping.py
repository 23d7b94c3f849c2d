"""Has the bookings of a model left alone for a time, and ends that."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.api.answers import Answer, Refused
from limiter.api.explaining import moment
from limiter.api.messages import KeepRequest, UnkeepRequest
from limiter.db import keeps, scaling_states
from limiter.domain.audit import counted
from limiter.domain.keep import Keep


async def keep(engine: AsyncEngine, request: KeepRequest, now: datetime, longest: timedelta) -> Answer:
    """Record a keep that ends at most `longest` from now; raises Refused."""
    _check_until(request.until, now, longest)
    new = Keep(request.model, request.user_id, now, request.until, request.reason, request.by)
    async with engine.begin() as connection:
        until = await keeps.add(connection, new)
        unknown = await scaling_states.is_unknown(connection, request.model)
    detail = f"{request.model} is kept for {_whose(request.user_id)} until {moment(until)} UTC"
    return Answer("completed", f"{detail}; no model of that name runs now: is it spelled right?" if unknown else detail)


def _check_until(until: datetime, now: datetime, longest: timedelta) -> None:
    if until <= now:
        raise Refused(f"keep.until: {until.isoformat()} is not in the future: it is {now.isoformat()}")
    if until - now > longest:
        most = f"KEEP_LONGEST_SECONDS ({longest.total_seconds():g}) from now, {now.isoformat()}"
        raise Refused(f"keep.until: {until.isoformat()} is later than {most}")


async def unkeep(engine: AsyncEngine, request: UnkeepRequest, now: datetime) -> Answer:
    """End the keeps of exactly this model and user."""
    async with engine.begin() as connection:
        ended = await keeps.end(connection, request.model, request.user_id, now)
    whose = f"{request.model!r} for {_whose(request.user_id)}"
    if not ended:
        return Answer("failed", f"there is no keep in force of {whose}")
    return Answer("completed", f"{counted(ended, 'keep')} of {whose} ended; idle time counts anew from now")


def _whose(user_id: UUID | None) -> str:
    return f"user {user_id}" if user_id else "every user"
