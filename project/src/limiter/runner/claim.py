"""One run of a job: why it began, what it claimed, how it ended."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from limiter.domain.job import Job


class Cause(StrEnum):
    """Why a run began."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    ORPHAN = "orphan"  # an earlier run of this slot was lost with its replica


class RunState(StrEnum):
    """How a run stands or ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Claim:
    """One run, claimed: its epoch is larger than that of any run before.

    A database that was put back gives epochs again, so `replica_id` says who has this one.
    """

    job: Job
    epoch: int
    replica_id: UUID
    cause: Cause
    missed: int
    lost: int

    @property
    def run_id(self) -> str:
        return f"{self.job}:{self.epoch}"


@dataclass(frozen=True, slots=True)
class RunReport:
    """How one run ended; `run_id` is None if it did not even begin."""

    run_id: str | None
    state: RunState
    detail: str | None = None
