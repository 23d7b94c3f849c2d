"""Many rows in one statement: `INSERT ... SELECT FROM unnest(arrays) ON CONFLICT ...`.

Ten times cheaper than a row each, and, unlike a VALUES list, one statement text whatever the number of rows.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection


def insertion(table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Insert:
    """The insert of at least one row; one array per column, however many rows."""
    arrays = [
        bindparam(None, list(values), type_=ARRAY(table.c[name].type))
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    source = func.unnest(*arrays).table_valued(*(column(name, table.c[name].type) for name in columns))
    values = source.render_derived(name="rows")
    return insert(table).from_select(list(columns), select(*(values.c[name] for name in columns)))


async def upsert(
    connection: AsyncConnection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert the rows, or update the ones whose primary key is there."""
    if not rows:
        return
    statement = insertion(table, columns, rows)
    keys = [key.name for key in table.primary_key]
    fresh = {name: statement.excluded[name] for name in columns if name not in keys}
    await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=fresh))
