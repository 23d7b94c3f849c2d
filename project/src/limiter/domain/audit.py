"""Why a decision was taken, in numbers and words: one `DecisionRecord` per change of decision, not one per tick."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from limiter.domain.decision import Decision, Reason

Numbers = Mapping[str, float | int | str]

_UNUSED = "unused since {idle_since_at} ({idle_seconds})"
_WORDS: dict[Reason, str] = {
    Reason.OVERLOADED: "{rps_per_replica} RPS per replica > {target} × {up_factor} for {held_seconds}: "
    "{replicas} → {wanted}",
    Reason.EXPECTED_OVERLOAD: "{rps} RPS grow by {rps_slope} a minute: {rps_expected} in {lead_seconds} on {replicas}, "
    "wished for {held_seconds}: {replicas} → {wanted}",
    Reason.BURST: "{rps_tick} RPS in the last tick alone ≥ {burst_factor} × {target} × {replicas}: "
    "{replicas} → {wanted}",
    Reason.UNDERUSED: "{rps_down} RPS ≤ {target} × {headroom} × {fewer} for {held_seconds}: {replicas} → {wanted}",
    Reason.BELOW_MIN: "the minimum is {minimum}: {replicas} → {wanted}",
    Reason.ABOVE_MAX: "the maximum is {maximum}: {replicas} → {wanted}",
    Reason.WITHIN_TARGET: "{rps_per_replica} RPS per replica on {replicas}: neither too much nor too little",
    Reason.STABILIZING: "{rps_per_replica} RPS per replica on {replicas}: the wish to go {wish} must hold for "
    "{needed_seconds}",
    Reason.AT_MAX: "{rps_per_replica} RPS per replica: it would go up, and {replicas} is the maximum",
    Reason.FLEET_FULL: "{rps_per_replica} RPS per replica on {replicas}",
    Reason.COMMANDS_LIMIT: "{rps_per_replica} RPS per replica on {replicas}: the run sends no more commands",
    Reason.COMMAND_UNFINISHED: "an earlier command for this model is unfinished",
    Reason.COOLING_DOWN: "an earlier command for this model has just ended",
    Reason.BACKING_OFF: "{failures} for this model failed in a row",
    Reason.REQUESTS_IN_FLIGHT: "underused, but requests are in flight",
    Reason.READING_UNKNOWN: "no trustworthy reading: unknown is not zero",
    Reason.EXEMPT: "the operator exempts this model",
    Reason.IN_USE: _UNUSED + ": not long enough for a warning",
    Reason.UNUSED: _UNUSED + ": {slots} at risk ({mode}), not before {not_before_at}",
    Reason.NOTHING_TO_CANCEL: "nothing is left to cancel at the deadline, and nothing to free",
    Reason.KEPT: "somebody asked to keep it",
    Reason.QUIET_HOURS: "these are quiet hours: nobody is warned or cancelled",
    Reason.SURGE: "too many turned idle at once: a person must allow it",
    Reason.KEEPS_SLOT: "not uninstalled: the user's own later slot starts soon",
    Reason.UNINSTALL_LATE: "the uninstall took too long: told as not done",
    Reason.BY_OPERATOR: "closed by an operator",
    Reason.NOT_SEEN_RUNNING: "since when the model runs and is measured is not known yet",
    Reason.BETWEEN_SLOTS: "between two slots of one row",
    Reason.BOOKINGS_UNREADABLE: "a booking of this model cannot be understood",
    Reason.ADDRESS_UNKNOWN: _UNUSED + ", but the user's address is not known, so no warning can go out",
    Reason.WARNING_UNDELIVERED: _UNUSED + ", but the broker has not confirmed the warning",
    Reason.WARNED_WAITING: _UNUSED + ", warned {delivered_at}: cancelling not before {not_before_at}",
    Reason.DEADLINE_PASSED: _UNUSED + ", warned {delivered_at}, cancelled {cancelled_at}: {slots} {mode}",
    Reason.USED_AGAIN: "used again {used_at}: the warning is withdrawn",
    Reason.BOOKING_GONE: "the user has no slot of the model any more",
    Reason.MODEL_GONE: "the model no longer runs",
    Reason.RUN_LIMIT: _UNUSED + ": the run has cancelled for as many users as it may",
    Reason.HELD_BY_ANOTHER: "not uninstalled: another user's slot of the model runs",
    Reason.BOOKED_SOON: "not uninstalled: another user's slot starts soon",
    Reason.MODE_CHANGED: "DRY_RUN was switched since the warning",
    Reason.DELETE_IN_FLIGHT: "a DELETE whose answer is not known may still be carried out",
    Reason.REFUSED: "the booking service refused {failed} of {slots}",
}
_WORDS_OF_ACT: dict[tuple[Decision, Reason], str] = {
    (Decision.WITHDRAW, Reason.EXEMPT): "the operator exempts this model: the warning is withdrawn",
    (Decision.WITHDRAW, Reason.KEPT): "somebody asked to keep it: the warning is withdrawn",
    (Decision.WITHDRAW, Reason.NOTHING_TO_CANCEL): "nothing that the warning named is left: it is withdrawn",
    (Decision.CANCEL, Reason.KEPT): "kept after {done} of {slots} were cancelled: the rest stays",
    (Decision.CANCEL, Reason.EXEMPT): "exempted after {done} of {slots} were cancelled: the rest stays",
    (Decision.CANCEL, Reason.BY_OPERATOR): "ended by an operator after {done} of {slots} were cancelled",
    (Decision.HOLD, Reason.REFUSED): "the booking service refuses: tried again later",
    (Decision.CANCEL, Reason.USED_AGAIN): "used again after {done} of {slots} were cancelled: the rest stays",
    (Decision.UNINSTALL, Reason.DEADLINE_PASSED): "nobody uses or needs it: uninstalled",
    (Decision.HOLD, Reason.USED_AGAIN): "not uninstalled: used again",
}
_COUNTED = {"slots": "slot", "failures": "command"}  # numbers that words show with a noun
# What a model was not given of what it needs; `full` names the budget.
_BUDGET = "; {wished} wished for, {granted} granted: {asked} of {full} {budget} replicas are asked for"
# The same where the numbers are not known: in the middle of a cancelling.
_WORDS_WITHOUT_NUMBERS: dict[Reason, str] = {
    Reason.BACKING_OFF: "a command for this model has just failed",
    Reason.USED_AGAIN: "used again: the warning is withdrawn",
}


class Computed(Mapping[str, float | int | str]):
    """Numbers that are only worked out when asked for: the first run on a large fleet decides about each model."""

    __slots__ = ("all",)

    def __init__(self, all: Callable[[], Numbers]) -> None:
        """`all` works them out."""
        self.all = all

    def __getitem__(self, name: str) -> float | int | str:
        return self.all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())


class _Shown(dict[str, str]):
    """Numbers as words show them; one that an earlier version did not record is a question mark."""

    def __missing__(self, _: str) -> str:
        return "?"


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One change of decision about a model (`user_id` None), or about one user's booking of it."""

    at: datetime
    model_id: UUID
    model_name: str
    user_id: UUID | None
    decision: Decision
    reason: Reason
    numbers: Numbers

    def worked_out(self) -> dict[str, float | int | str]:
        """The numbers, as a dictionary."""
        return dict(self.numbers.all() if isinstance(self.numbers, Computed) else self.numbers)

    @property
    def why(self) -> str:
        """The numbers in words; a name ending in `_at` is a moment in Unix seconds, one in `_seconds` a duration."""
        numbers = self.worked_out()
        plain = None if numbers else _WORDS_WITHOUT_NUMBERS.get(self.reason)
        words = _WORDS_OF_ACT.get((self.decision, self.reason)) or plain or _WORDS[self.reason]
        words += _BUDGET if "wished" in numbers else ""
        return words.format_map(_Shown((name, self._shown(name, value)) for name, value in numbers.items()))

    def _shown(self, name: str, value: float | int | str) -> str:
        if isinstance(value, str):
            return value
        if name in _COUNTED:
            return counted(value, _COUNTED[name])
        if name.endswith("_at"):
            return self._moment(datetime.fromtimestamp(value, UTC))
        if name.endswith("_seconds"):
            return duration(value)
        return _rate(value) if name.startswith("rps") else f"{value:g}"

    def _moment(self, moment: datetime) -> str:
        clock = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
        return clock if moment.date() == self.at.astimezone(UTC).date() else f"{moment:%Y-%m-%d} {clock}"


def _rate(rps: float) -> str:
    """Calls per second; below one with two digits, or they would not show on which side of a small target they are."""
    return f"{rps:.2g}" if 0.0 < rps < 1.0 else f"{rps:.1f}"


def in_words(decision: Decision, *, dry_run: bool) -> str:
    """The decision, or, in a dry run, that it would be done."""
    return f"would {decision}" if dry_run and decision is not Decision.HOLD else str(decision)


def standing_of(decision: Decision, reason: Reason) -> str:
    """A decision and its reason, as they are compared with the last ones."""
    return decision + ":" + reason


def explanation(records: Sequence[tuple[DecisionRecord, bool]], running: Collection[UUID]) -> list[str]:
    """Line by line what stands for each instance and booking of a model, and the changes before, the newest first.

    With each record comes whether it was of a dry run. Nothing stands for an instance that is not known as `running`.
    """
    latest: dict[tuple[UUID, UUID | None], tuple[DecisionRecord, bool]] = {}
    for record, dry in records:
        latest.setdefault((record.model_id, record.user_id), (record, dry))
    stands = [
        ("since " if record.model_id in running else "not known to run; last ") + _line(record, dry_run=dry)
        for record, dry in latest.values()
    ]
    changes = (_line(record, dry_run=dry) for record, dry in records)
    return ["stands:", *stands, "changes, the newest first:", *changes]


def _line(found: DecisionRecord, *, dry_run: bool) -> str:
    whose = f"model {found.model_id}" + (f", user {found.user_id}" if found.user_id else "")
    decision = in_words(found.decision, dry_run=dry_run)
    return f"{found.at:%Y-%m-%d %H:%M:%S}  {whose}: {decision} ({found.reason}): {found.why}"


def counted(many: float, noun: str) -> str:
    """A number with its noun: `1 slot`, `2 slots`."""
    return f"{many:g} {noun}" if many == 1 else f"{many:g} {noun}s"


def duration(seconds: float) -> str:
    """Seconds as people say them: `31 s`, `42 min`, `3.5 h`."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"  # a call may come a moment after the run began: no time, not less
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
