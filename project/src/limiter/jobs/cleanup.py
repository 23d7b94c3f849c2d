"""cleanup: forgets what is over and old, in batches; it needs nothing but Postgres."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import readings, retention
from limiter.domain.audit import counted
from limiter.runner.run import Run


@dataclass(frozen=True)
class Cleanup:
    """Drops rows older than their retention, `batch` rows in one short transaction; `targets` are read today."""

    targets: Collection[str]
    history: timedelta
    contacts: timedelta
    batch: int

    async def __call__(self, run: Run) -> None:
        history, contacts = run.now - self.history, run.now - self.contacts
        dropped = {}
        for table, condition in retention.outdated(history, contacts).items():
            rows = partial(retention.drop, table=table, condition=condition, limit=self.batch)
            dropped[table.name] = await self._all(run, rows)
        targets = partial(readings.forget_targets, before=history, batch=self.batch, configured=self.targets)
        dropped["target"] = await self._all(run, targets)
        some = {name: rows for name, rows in dropped.items() if rows}
        logger.bind(event="cleaned_up", rows=some).log(
            "INFO" if some else "DEBUG", "{} dropped", counted(sum(some.values()), "row")
        )

    async def _all(self, run: Run, drop: Callable[[AsyncConnection], Awaitable[int]]) -> int:
        """Batch after batch until one is not full, or the job is paused; returns how many rows it were."""
        total = 0
        while not await run.braked():
            async with run.write() as connection:
                rows = await drop(connection)
            total += rows
            if rows < self.batch:
                break
        return total
