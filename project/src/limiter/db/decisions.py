"""The audit: one row per change of decision, and what stands for each booking."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Uuid,
    and_,
    any_,
    bindparam,
    column,
    desc,
    exists,
    func,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.computing import computed
from limiter.db.bulk import insertion, streamed
from limiter.db.scaling_states import named
from limiter.db.tables import decision, scaling_state
from limiter.domain.audit import DecisionRecord, standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.snapshot import BookingKey

COLUMNS = (
    "decided_at",
    "model_id",
    "model_name",
    "user_id",
    "decision",
    "reason",
    "numbers",
    "dry_run",
    "stands",
)

AT_A_TIME = 1_500  # records written at once: about 20 ms of work, most of it for their numbers


async def record(connection: AsyncConnection, records: Sequence[DecisionRecord], *, dry_run: bool) -> None:
    """Write changed decisions; each is from now on what stands for its booking."""
    if not records:
        return
    keys = [(found.model_id, found.user_id) for found in records if found.user_id is not None]
    if keys:
        # Arrays, not a list of values: a statement has at most 32,767 parameters, and a large fleet more keys.
        ids = [bindparam(None, list(of), type_=ARRAY(Uuid)) for of in zip(*keys, strict=True)]
        columns = (column("model_id", Uuid), column("user_id", Uuid))
        theirs = func.unnest(*ids).table_valued(*columns).render_derived(name="theirs")
        same = (decision.c.model_id == theirs.c.model_id) & (decision.c.user_id == theirs.c.user_id)
        await connection.execute(update(decision).where(decision.c.stands, same).values(stands=False))
    for start in range(0, len(records), AT_A_TIME):
        some = records[start : start + AT_A_TIME]
        await connection.execute(await computed(_inserted, some, dry_run))


def _inserted(records: Sequence[DecisionRecord], dry_run: bool) -> Insert:
    return insertion(decision, COLUMNS, [_row(found, dry_run) for found in records])


def _row(found: DecisionRecord, dry_run: bool) -> tuple[Any, ...]:
    stands = found.user_id is not None
    about = (found.at, found.model_id, found.model_name, found.user_id)
    return (*about, found.decision, found.reason, found.worked_out(), dry_run, stands)


async def standing(connection: AsyncConnection) -> dict[BookingKey, str]:
    """The last decision about each booking, and its reason."""
    columns = (decision.c.model_id, decision.c.user_id, decision.c.decision, decision.c.reason)
    latest = select(*columns).ext(distinct_on(decision.c.model_id, decision.c.user_id)).where(decision.c.stands)
    latest = latest.order_by(decision.c.model_id, decision.c.user_id, decision.c.id.desc())
    return {(model, user): _standing(made, reason) async for model, user, made, reason in streamed(connection, latest)}


@cache
def _standing(made: str, reason: str) -> str:
    return standing_of(_decision(made), Reason(reason))


def _decision(made: str) -> Decision:
    """The decision of a row; what 1.0.0 let expire is a withdrawal now."""
    return Decision.WITHDRAW if made == "expire" else Decision(made)


async def for_model(connection: AsyncConnection, name: str, limit: int) -> list[tuple[DecisionRecord, bool]]:
    """The latest changes of decision about every instance of a name and their bookings, each with whether it was dry.

    The newest first. What stands is among them, however many changes came since, and of a model that was renamed by
    whichever name.
    """
    changes = select(decision.c.id).where(decision.c.model_name == name)
    of_models = select(func.max(decision.c.id).label("id")).where(
        decision.c.model_name == name, decision.c.user_id.is_(None)
    )
    of_renamed = select(decision.c.id).where(decision.c.stands, decision.c.model_id.in_(named(name)))
    parts = (changes, changes.where(decision.c.stands), of_models.group_by(decision.c.model_id), of_renamed)
    ids = union(*(part.order_by(desc("id")).limit(limit).subquery().select() for part in parts))
    found = bindparam(None, list((await connection.execute(ids)).scalars()), type_=ARRAY(BigInteger))
    query = select(decision).where(decision.c.id == any_(found)).order_by(decision.c.id.desc())
    return [(record_of(row), row.dry_run) for row in await connection.execute(query)]


def outdated(before: datetime, long_before: datetime) -> ColumnElement[bool]:
    """Which rows may be forgotten: older than `before`, and they do not stand.

    What stands about a booking goes only when its model has been gone, and nothing was decided, since `long_before`.
    """
    runs = exists().where(scaling_state.c.model_id == decision.c.model_id)
    replaced = and_(~decision.c.stands, or_(decision.c.user_id.is_not(None), ~runs, _later_about_model()))
    gone = and_(decision.c.stands, ~runs, decision.c.decided_at < long_before)
    return and_(decision.c.decided_at < before, or_(replaced, gone))


def _later_about_model() -> ColumnElement[bool]:
    """There is a later row about the model itself: `stands` is only kept for bookings."""
    later = decision.alias("later")
    same = (later.c.model_name == decision.c.model_name) & (later.c.model_id == decision.c.model_id)
    return exists().where(same, later.c.user_id.is_(None), later.c.id > decision.c.id).correlate_except(later)


def record_of(row: Any) -> DecisionRecord:
    return DecisionRecord(
        row.decided_at.astimezone(UTC),
        row.model_id,
        row.model_name,
        row.user_id,
        _decision(row.decision),
        Reason(row.reason),
        row.numbers,
    )
