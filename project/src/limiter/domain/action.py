"""What is decided, why, and what is done about it: the words that logs, metrics and rows share."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from limiter.domain.fleet import ServedModel


class Job(StrEnum):
    """The independent jobs; the values are their names in messages, metrics and rows."""

    RPS_CHECK = "rps_check"
    IDLE_WARNING = "idle_warning"
    IDLE_ENFORCE = "idle_enforce"
    SAGA_POLL = "saga_poll"
    EVENT_DISPATCH = "event_dispatch"


class Decision(StrEnum):
    """What a look at one model, or at one user's hold on it, came to."""

    HOLD = "hold"
    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    WARN = "warn"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"
    CANCEL = "cancel"
    UNINSTALL = "uninstall"


class Reason(StrEnum):
    """Why; one closed list, so that it can be a metric label."""

    # scaling
    OVERLOADED = "overloaded"  # RPS per replica stayed above target and tolerance for the whole stabilization
    UNDERUSED = "underused"  # one replica less would still have headroom, for the whole stabilization
    BELOW_MIN = "below_min"  # fewer replicas than the configured minimum
    ABOVE_MAX = "above_max"  # more replicas than the configured maximum
    WITHIN_TARGET = "within_target"  # neither too much nor too little
    STABILIZING = "stabilizing"  # the wish to scale has not held long enough yet
    AT_MAX = "at_max"  # overloaded, and the maximum is reached
    COMMAND_UNFINISHED = "command_unfinished"  # an earlier command for this model still runs
    COOLING_DOWN = "cooling_down"  # an earlier scale finished a moment ago
    BACKING_OFF = "backing_off"  # earlier commands for this model failed
    # both
    READING_UNKNOWN = "reading_unknown"  # no trustworthy reading: unknown is not zero
    EXEMPT = "exempt"  # the operator took this model out of the policy
    # idleness
    IN_USE = "in_use"  # not unused for long enough to warn
    UNUSED = "unused"  # no call for N - Y
    NOTHING_TO_CANCEL = "nothing_to_cancel"  # no following slot, and nothing to free
    NOT_SEEN_RUNNING = "not_seen_running"  # rps_check has not yet recorded since when the model runs
    BETWEEN_SLOTS = "between_slots"  # in the short gap between two slots of one row
    BOOKINGS_UNREADABLE = "bookings_unreadable"  # a booking of this model could not be understood
    ADDRESS_UNKNOWN = "address_unknown"  # the user's e-mail address has not been learned yet
    WARNING_UNDELIVERED = "warning_undelivered"  # the broker has not confirmed the warning yet
    WARNED_WAITING = "warned_waiting"  # warned, and the deadline has not come
    DEADLINE_PASSED = "deadline_passed"  # unused for N, and warned at least Y ago
    USED_AGAIN = "used_again"  # a call came after the idle spell began
    BOOKING_GONE = "booking_gone"  # the user no longer holds the model
    MODEL_GONE = "model_gone"  # the model no longer runs
    RUN_LIMIT = "run_limit"  # this run has cancelled for as many users as it may
    HELD_BY_ANOTHER = "held_by_another"  # not uninstalled: another user holds the model now
    BOOKED_SOON = "booked_soon"  # not uninstalled: another user's slot starts soon
    MODE_CHANGED = "mode_changed"  # DRY_RUN was switched since the spell began
    REFUSED = "refused"  # the booking service refused to cancel some of the slots


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


def intend(
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
class Pauses:
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
