"""What rps_check remembers, kept in the process that wrote it last, so that it need not be read again at each run."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import readings, scaling_states
from limiter.domain.fleet import ScalingState
from limiter.domain.job import Job
from limiter.domain.usage import Memory
from limiter.runner.due import epoch_of
from limiter.runner.run import Run

KEPT_FOR = timedelta(hours=1)  # then it is read again: cleanup forgets what the process would keep for ever


@dataclass(frozen=True)
class Remembered:
    """The readings and the states of scaling as one run of rps_check left them."""

    memory: Memory
    scaling_states: Mapping[UUID, ScalingState]


class WarmMemory:
    """What this process wrote last, as long as nobody has written after it.

    That is so if no run of rps_check was claimed since, and the targets stand in the database as they were written: of
    a database that was put back to an earlier state, the second tells.
    """

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._written: Remembered | None = None
        self._epoch = 0
        self._loaded_at: datetime | None = None

    async def load(self, run: Run, connection: AsyncConnection, targets: Collection[str]) -> Remembered:
        """What is remembered before this run; from the database, unless it is known to be what was written here."""
        own = run.claim.job is Job.RPS_CHECK
        epoch = run.claim.epoch - 1 if own else await epoch_of(connection, Job.RPS_CHECK)
        known = self._written
        if known is not None and epoch == self._epoch and not self._outdated(run.now):
            targets_now = await readings.load_targets(connection, targets)
            if targets_now == readings.target_rows(known.memory):
                return known
        found = Remembered(await readings.load(connection, targets), await scaling_states.load(connection))
        if own:
            self._loaded_at = run.now
        return found

    def _outdated(self, now: datetime) -> bool:
        return self._loaded_at is None or not timedelta() <= now - self._loaded_at < KEPT_FOR

    def written(self, run: Run, remembered: Remembered) -> None:
        """This run of rps_check has committed it."""
        self._written, self._epoch = remembered, run.claim.epoch
