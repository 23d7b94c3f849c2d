"""Many rows in one statement: `INSERT ... SELECT FROM unnest(arrays) ON CONFLICT DO UPDATE`.

Ten times cheaper than a row each, and, unlike a VALUES list, one statement text whatever the number of rows.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection


async def upsert(
    connection: AsyncConnection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert the rows, or update the ones whose primary key is there."""
    if not rows:
        return
    arrays = [
        bindparam(None, list(values), type_=ARRAY(table.c[name].type))
        for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    source = func.unnest(*arrays).table_valued(*(column(name, table.c[name].type) for name in columns))
    values = source.render_derived(name="rows")
    statement = insert(table).from_select(list(columns), select(*(values.c[name] for name in columns)))
    keys = [key.name for key in table.primary_key]
    fresh = {name: statement.excluded[name] for name in columns if name not in keys}
    await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=fresh))
