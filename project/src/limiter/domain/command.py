"""Commands to the dispatcher, and how long a model is left alone after one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from limiter.domain.decision import Reason
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.wall_clock import SET_BACK


class CommandKind(StrEnum):
    """What the dispatcher is asked for."""

    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    UNINSTALL = "uninstall"


class CommandState(StrEnum):
    """planned -> submitted -> completed | failed; a stuck one may still end, and one of a dry run was never sent."""

    PLANNED = "planned"
    SUBMITTED = "submitted"
    STUCK = "stuck"
    COMPLETED = "completed"
    FAILED = "failed"
    DRY_RUN = "dry_run"


UNFINISHED = (CommandState.PLANNED, CommandState.SUBMITTED, CommandState.STUCK)


@dataclass(frozen=True, slots=True)
class Command:
    """One command to the dispatcher, as the ledger remembers it; `failures` in a row, 0 if it was forbidden.

    `replicas` are those asked for; of an uninstall, those that the model had.
    `sent_at` is set right before the call: with it and without `saga_id`, the call is under way or its answer is lost.
    """

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
    sent_at: datetime | None = None

    @property
    def wanted(self) -> int | None:
        """How many replicas the model has when it is carried out; None: it is gone."""
        return None if self.kind is CommandKind.UNINSTALL else self.replicas

    @property
    def unfinished(self) -> bool:
        return self.state in UNFINISHED

    def older_than(self, age: timedelta, now: datetime) -> bool:
        """Whether it was sent, or planned if it never was sent, longer ago than that."""
        return now - (self.sent_at or self.planned_at) > age


class FollowUp(StrEnum):
    """What is done next about an unfinished command."""

    SEND = "send"  # it was never sent, and may be sent now
    DROP = "drop"  # it was never sent, and what it rests on is no longer known to be so
    WAIT = "wait"  # its call may be under way
    ASK_SAGA = "ask_saga"
    ASK_REGISTRY = "ask_registry"  # its answer is lost, so only its effect can tell


def follow_up(command: Command, now: datetime, *, in_flight: timedelta, timeout: timedelta) -> FollowUp:
    """What to do next: a call takes at most `in_flight`, and a scale not sent within `timeout` is not sent any more.

    An uninstall that was never sent is not sent later: harm needs a fresh look.
    """
    if command.saga_id is not None:
        return FollowUp.ASK_SAGA
    if command.sent_at is not None:
        return FollowUp.ASK_REGISTRY if command.older_than(in_flight, now) else FollowUp.WAIT
    if command.kind is CommandKind.UNINSTALL:
        return FollowUp.DROP if command.older_than(in_flight, now) else FollowUp.WAIT
    return FollowUp.DROP if command.older_than(timeout, now) else FollowUp.SEND


class Effect(StrEnum):
    """Whether the registry shows that a command was carried out."""

    SHOWN = "shown"
    ABSENT = "absent"
    UNKNOWN = "unknown"  # the model is not on the registry's list, or not readable there, and may run still


def effect_of(command: Command, fleet: Fleet) -> Effect:
    """What the running models tell of a command."""
    model = fleet.by_id.get(command.model_id)
    if model is None and not fleet.is_gone(command.model_id):
        return Effect.UNKNOWN
    replicas = None if model is None else model.replicas
    return Effect.SHOWN if replicas == command.wanted else Effect.ABSENT


def backoff(failures: int, first: timedelta, longest: timedelta) -> timedelta:
    """The pause after `failures` failures in a row: first, 2 x first, 4 x first ... up to longest."""
    doublings = min(max(failures, 1) - 1, 30)
    return longest if first > longest / 2**doublings else first * float(2**doublings)


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
    state, ended = (CommandState.DRY_RUN, now) if dry_run else (CommandState.PLANNED, None)
    return Command(id, model.id, model.name, kind, replicas, state, now, finished_at=ended, failures=failures)


@dataclass(frozen=True, slots=True)
class CommandPacing:
    """How long a model is left alone after a command: cooldown after success, doubling backoff after failure."""

    cooldown: timedelta
    backoff_first: timedelta
    backoff_longest: timedelta

    def blocks(self, last: Command | None, now: datetime) -> Reason | None:
        """Why no further command may go to the model now, judged by its latest command; None: it may."""
        if last is not None and last.unfinished:
            return Reason.COMMAND_UNFINISHED
        if last is None or (ended := last.finished_at or last.planned_at) > now + SET_BACK:
            return None
        if last.state is CommandState.FAILED:
            wait = backoff(last.failures, self.backoff_first, self.backoff_longest) if last.failures else timedelta(0)
            return Reason.BACKING_OFF if now < ended + wait else None
        return Reason.COOLING_DOWN if now < ended + self.cooldown else None
