"""What scaling remembers of each running model."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, any_, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import keeps
from limiter.db.bulk import streamed, upsert
from limiter.db.tables import scaling_state
from limiter.domain.audit import standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState

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
    rows = streamed(connection, select(*(scaling_state.c[name] for name in COLUMNS)))
    return {row.model_id: ScalingState(*row) async for row in rows}


@dataclass(frozen=True, slots=True)
class Changed:
    """The states that a tick changes, the models that are gone, and of renamed ones the name before and now."""

    states: Sequence[ScalingState]
    gone: Collection[UUID]
    renamed: Collection[tuple[str, str]] = ()

    def after(self, before: Mapping[UUID, ScalingState]) -> Mapping[UUID, ScalingState]:
        """All states with these changes."""
        if not self.states and not self.gone:
            return before
        after = {**before, **{state.model_id: state for state in self.states}}
        for id in self.gone:
            del after[id]
        return after


def changed(before: Mapping[UUID, ScalingState], after: Iterable[ScalingState], fleet: Fleet) -> Changed:
    """What to write, and only that; pure work, for a thread."""
    pairs = ((before.get(state.model_id), state) for state in after)
    states = [state for was, state in pairs if was is not state and was != state]
    gone = [id for id in before if id not in fleet.by_id and fleet.is_gone(id)]
    names = {(before[state.model_id].name, state.name) for state in states if state.model_id in before}
    return Changed(states, gone, {(was, now) for was, now in names if was != now})


async def save(connection: AsyncConnection, rows: Changed) -> None:
    """Write the changed ones; forget the models that are gone."""
    if rows.gone:
        ids = bindparam(None, list(rows.gone), type_=ARRAY(Uuid()))
        await connection.execute(delete(scaling_state).where(scaling_state.c.model_id == any_(ids)))
    await upsert(connection, scaling_state, COLUMNS, map(_row, rows.states))
    await keeps.go_along(connection, rows.renamed)


def named(model_name: str) -> Select[tuple[UUID]]:
    """The ids of the models that run by this name now."""
    return select(scaling_state.c.model_id).where(scaling_state.c.model_name == model_name)


async def running(connection: AsyncConnection, ids: Iterable[UUID]) -> set[UUID]:
    """Which of these models run, as far as the last run of rps_check knows."""
    wanted = bindparam(None, list(ids), type_=ARRAY(Uuid()))
    return set(
        await connection.scalars(select(scaling_state.c.model_id).where(scaling_state.c.model_id == any_(wanted)))
    )


async def is_unknown(connection: AsyncConnection, model_name: str) -> bool:
    """Whether models are observed, and none of this name; while there are none at all, nothing can be said."""
    query = select(func.count(), func.count().filter(scaling_state.c.model_name == model_name))
    all, of_name = (await connection.execute(query.select_from(scaling_state))).one()
    return bool(all and not of_name)


async def observed(connection: AsyncConnection) -> tuple[int, int, int]:
    """How many models are under observation, how many replicas they have, and how many models get no more of them."""
    full = func.count().filter(scaling_state.c.standing == FLEET_FULL)
    found = await connection.execute(select(func.count(), func.coalesce(func.sum(scaling_state.c.replicas), 0), full))
    models, replicas, without = found.one()
    return models, replicas, without
