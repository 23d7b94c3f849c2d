"""What scaling remembers of each running model."""

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.bulk import upsert
from limiter.db.tables import scaling_state
from limiter.domain.fleet import ScalingState

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


async def observed(connection: AsyncConnection) -> int:
    """How many models are under observation."""
    return await connection.scalar(select(func.count()).select_from(scaling_state)) or 0
