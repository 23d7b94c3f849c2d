"""What scaling remembers of each running model."""

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.bulk import upsert
from limiter.db.tables import scaling_state
from limiter.domain.audit import standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import ScalingState

FLEET_FULL = standing_of(Decision.HOLD, Reason.FLEET_FULL)
COLUMNS = (
    "model_id",
    "model_name",
    "replicas",
    "first_seen_at",
    "overloaded_since",
    "underused_since",
    "standing",
    "underused_peak",
)
_row = attrgetter("model_id", "name", *COLUMNS[2:])


async def load(connection: AsyncConnection) -> dict[UUID, ScalingState]:
    """The state of every model as the last run of rps_check left it."""
    rows = await connection.execute(select(*(scaling_state.c[name] for name in COLUMNS)))
    return {row.model_id: ScalingState(*row) for row in rows}


async def save(
    connection: AsyncConnection,
    before: Mapping[UUID, ScalingState],
    after: Iterable[ScalingState],
    gone: Collection[UUID] = (),
) -> None:
    """Write the changed ones; forget the models that are gone."""
    if gone:
        ids = bindparam(None, list(gone), type_=ARRAY(Uuid()))
        await connection.execute(delete(scaling_state).where(scaling_state.c.model_id == any_(ids)))
    changed = [_row(state) for state in after if before.get(state.model_id) != state]
    await upsert(connection, scaling_state, COLUMNS, changed)


async def observed(connection: AsyncConnection) -> tuple[int, int, int]:
    """How many models are under observation, how many replicas they have, and how many models get no more of them."""
    full = func.count().filter(scaling_state.c.standing == FLEET_FULL)
    found = await connection.execute(select(func.count(), func.coalesce(func.sum(scaling_state.c.replicas), 0), full))
    models, replicas, without = found.one()
    return models, replicas, without
