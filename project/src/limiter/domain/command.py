"""Commands to the dispatcher, and how long a model is left alone after one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from limiter.domain.decision import Reason
from limiter.domain.fleet import ServedModel


class CommandKind(StrEnum):
    """What the dispatcher is asked for."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    UNINSTALL = "uninstall"


class CommandState(StrEnum):
    """planned -> submitted -> completed | failed; stuck is a submitted one that takes too long."""

    PLANNED = "planned"
    SUBMITTED = "submitted"
    STUCK = "stuck"
    COMPLETED = "completed"
    FAILED = "failed"
    DRY_RUN = "dry_run"


UNFINISHED = (CommandState.PLANNED, CommandState.SUBMITTED, CommandState.STUCK)


@dataclass(frozen=True, slots=True)
class Command:
    """One command to the dispatcher, as the ledger remembers it; `failures` counts consecutive failed ones."""

    id: UUID
    model_id: UUID
    model_name: str
    kind: CommandKind
    replicas: int | None
    state: CommandState
    planned_at: datetime
    saga_id: UUID | None = None
    finished_at: datetime | None = None
    failures: int = 0
    spell_id: UUID | None = None

    @property
    def unfinished(self) -> bool:
        return self.state in UNFINISHED


def backoff(failures: int, first: timedelta, longest: timedelta) -> timedelta:
    """The pause after `failures` failures in a row: first, 2 x first, 4 x first ... up to longest."""
    doublings = min(max(failures, 1) - 1, 30)
    return min(longest, first * float(2**doublings))


def new_command(
    id: UUID,
    model: ServedModel,
    kind: CommandKind,
    replicas: int | None,
    last: Command | None,
    now: datetime,
    *,
    dry_run: bool,
) -> Command:
    """A new command for the ledger; in a dry run it is recorded as ended."""
    failures = last.failures if last and last.state is CommandState.FAILED else 0
    state = CommandState.DRY_RUN if dry_run else CommandState.PLANNED
    ended = now if dry_run else None
    return Command(id, model.id, model.name, kind, replicas, state, now, finished_at=ended, failures=failures)


@dataclass(frozen=True, slots=True)
class CommandPacing:
    """How long a model is left alone after a command: cooldown after success, doubling backoff after failure."""

    cooldown: timedelta
    backoff_first: timedelta
    backoff_longest: timedelta

    def blocks(self, last: Command | None, now: datetime) -> Reason | None:
        """Why no further command may go to the model now, judged by its latest command; None: it may."""
        if last is None:
            return None
        if last.unfinished:
            return Reason.COMMAND_UNFINISHED
        ended = last.finished_at or last.planned_at
        if last.state is CommandState.FAILED:
            wait = backoff(last.failures, self.backoff_first, self.backoff_longest)
            return Reason.BACKING_OFF if now < ended + wait else None
        return Reason.COOLING_DOWN if now < ended + self.cooldown else None
