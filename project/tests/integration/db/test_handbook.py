"""The queries of docs/operations.md, as somebody types them at night, on the tables as they are."""

import re

from dev.servers.services import Services
from tests.conftest import ROOT
from tests.old_database import connected

INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
QUERY = re.compile(r"^SELECT .*?(?=;$|^\S+:)", re.MULTILINE | re.DOTALL)


def queries(schema: str) -> list[str]:
    """Each SELECT of the handbook, for the tables of this schema; `...` stands for the name of a job."""
    blocks = "".join(INDENTED.findall((ROOT / "docs/operations.md").read_text())).replace("\n    ", "\n")
    return [query.replace("rps_limiter.", f"{schema}.").replace("'...'", "'x'") for query in QUERY.findall(blocks)]


async def test_each_query_can_be_asked(services: Services, schema: str) -> None:
    async with connected(services, schema) as connection:
        asked = queries(schema)
        for query in asked:
            await connection.fetch(query)
    assert len(asked) > 15


async def test_a_transaction_left_open_that_keeps_a_job_from_running_is_found(services: Services, schema: str) -> None:
    (query,) = (query for query in queries(schema) if "idle in transaction" in query)
    async with connected(services, schema) as somebody, connected(services, schema) as connection:
        await somebody.execute("BEGIN; UPDATE job SET paused = paused")
        found = await connection.fetch(query.replace("30 s", "0 s"))
    assert [row["query"] for row in found] == ["BEGIN; UPDATE job SET paused = paused"]
