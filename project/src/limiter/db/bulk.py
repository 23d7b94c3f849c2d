"""Many rows in one statement: `INSERT ... SELECT FROM unnest(arrays) ON CONFLICT ...`; and many rows read.

Ten times cheaper than a row each, and, unlike a VALUES list, one statement text whatever the number of rows. So many at
once that they would hold up everything else in the process go, and come, some at a time.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import ARRAY, Select, Table, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.computing import computed

AT_A_TIME = 2_000  # rows written, or read, at once: about 10 and 5 ms of work


async def streamed(connection: AsyncConnection, query: Select[Any]) -> AsyncIterator[Any]:
    """The rows, some at a time."""
    async with connection.stream(query, execution_options={"yield_per": AT_A_TIME}) as found:
        async for some in found.partitions():
            for row in some:
                yield row


def texts(values: Iterable[str]) -> Any:
    """The values as one array: one parameter, however many."""
    return bindparam(None, list(values), type_=ARRAY(Text()))


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
    connection: AsyncConnection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert the rows, or update the ones whose primary key is there."""
    left = iter(rows)
    while (statement := await computed(_next_upsert, table, columns, left)) is not None:
        await connection.execute(statement)


def _next_upsert(table: Table, columns: Sequence[str], left: Iterator[Sequence[Any]]) -> Insert | None:
    """The statement for the next rows, which may have to be made first: work for a thread; None: all are written."""
    some = list(islice(left, AT_A_TIME))
    if not some:
        return None
    statement = insertion(table, columns, some)
    keys = [key.name for key in table.primary_key]
    fresh = {name: statement.excluded[name] for name in columns if name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=fresh)
