"""How long the sagas of each model name and kind of command lasted, the latest ones."""

from statistics import median

from sqlalchemy import ARRAY, Float, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db.tables import saga_time
from limiter.domain.command import Command, CommandKind

KEPT = 9  # of so many, four may be out of the ordinary and the median is still an ordinary one


async def note(connection: AsyncConnection, ended: Command) -> None:
    """Remember how long a command took from its call to its end."""
    if ended.sent_at is None or ended.finished_at is None:
        return
    took = (ended.finished_at - ended.sent_at).total_seconds()
    row = {"model_name": ended.model_name, "kind": ended.kind, "seconds": [took], "noted_at": ended.finished_at}
    added = func.array_prepend(took, saga_time.c.seconds, type_=ARRAY(Float))[1:KEPT]
    statement = insert(saga_time).values(row)
    again = {"seconds": added, "noted_at": statement.excluded.noted_at}
    await connection.execute(statement.on_conflict_do_update(index_elements=["model_name", "kind"], set_=again))


async def usual(connection: AsyncConnection, kind: CommandKind) -> dict[str, float]:
    """The median of what is remembered, in seconds, by model name."""
    rows = await connection.execute(select(saga_time.c.model_name, saga_time.c.seconds).where(saga_time.c.kind == kind))
    return {row.model_name: median(row.seconds) for row in rows}
