"""What rps_check remembers, kept in the process that wrote or read it last, so that no run need read it again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import readings, scaling_states
from limiter.domain.fleet import ScalingState
from limiter.domain.job import Job
from limiter.domain.settled import Settled
from limiter.domain.shard import Shard
from limiter.domain.usage import Memory
from limiter.runner.due import last_claim
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

KEPT_FOR = timedelta(hours=1)  # then it is read again: cleanup forgets what the process would keep for ever


@dataclass(frozen=True)
class Remembered:
    """The readings and the states of scaling as one run of rps_check left them."""

    memory: Memory
    scaling_states: Mapping[UUID, ScalingState]
    settled: Settled | None = None


class _Kept(NamedTuple):
    """What stood in the database after the claim of this epoch, and when it was read from there for the last time."""

    epoch: int
    loaded_at: datetime | None
    remembered: Remembered


class WarmMemory:
    """What this process wrote last, or read for an idle job, as long as nobody has written after it.

    That is so if no run of rps_check was claimed since, and the targets stand in the database as they were: of a
    database that was put back to an earlier state, the second tells.
    """

    def __init__(self, schema: str, shard: Shard, telemetry: Telemetry) -> None:
        """Nothing was written or read yet."""
        self._schema = schema
        self._shard = shard
        self._telemetry = telemetry
        self._written: _Kept | None = None
        self._read: _Kept | None = None  # what rps_check itself must not go by
        self._loaded_at: datetime | None = None

    async def load(self, run: Run, connection: AsyncConnection, targets: Collection[str]) -> Remembered:
        """What is remembered before this run; from the database, unless it is known to be what stands there."""
        own = run.claim.job is Job.RPS_CHECK
        epoch, ended = (run.claim.epoch - 1, True) if own else await last_claim(connection, Job.RPS_CHECK)
        for kept in (self._written, None if own else self._read):
            if kept is not None and kept.epoch == epoch and not _outdated(kept, run.now):
                targets_now = await readings.load_targets(connection, targets)
                if targets_now == readings.target_rows(kept.remembered.memory):
                    return kept.remembered
        self._read = None  # before there are two of them
        found = Remembered(await readings.load(connection, targets), await scaling_states.load(connection))
        if own:
            self._loaded_at = run.now
            self._watch_shares(found.scaling_states)
        elif ended:
            self._read = _Kept(epoch, run.now, found)
        return found

    def _watch_shares(self, found: Mapping[UUID, ScalingState]) -> None:
        """Say so if a deployment of another share writes to our schema: each would forget the other's models."""
        if self._written is None:
            return  # what was there before us may be of a time when the shares were others
        ours = self._written.remembered.scaling_states
        for state in found.values():
            if state.model_id not in ours and not self._shard.minds(state.name):
                whose = f"{self._shard.of_name(state.name)}/{self._shard.of}"
                detail = f"SHARD={self._shard}, DATABASE_SCHEMA={self._schema!r}: somebody minds {state.name!r} there"
                self._telemetry.goes_on("shares_mixed", f"{detail}, of SHARD={whose}: each needs a schema of its own")
                return

    def written(self, run: Run, remembered: Remembered) -> None:
        """This run of rps_check has committed it."""
        self._written, self._read = _Kept(run.claim.epoch, self._loaded_at, remembered), None


def _outdated(kept: _Kept, now: datetime) -> bool:
    return kept.loaded_at is None or not timedelta() <= now - kept.loaded_at < KEPT_FOR
