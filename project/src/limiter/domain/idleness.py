"""When a booked model counts as unused, and what follows: warn, withdraw, cancel, or let go.

A spell goes in use -> warning_pending -> warned -> enforcing -> enforced; or it ends as withdrawn (the model was used)
or expired (nothing is left to cancel). Nobody is cancelled before `delivered_at + lead`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Decision, Reason
from limiter.domain.reservations import Slot, UnbookingMode, User
from limiter.domain.usage import Gap, unknown_time


@dataclass(frozen=True, slots=True)
class IdleRule:
    """The idle policy for one model name: warn after limit - lead of no use, cancel after limit."""

    limit: timedelta
    lead: timedelta
    mode: UnbookingMode
    row_gap: timedelta
    cancel_current: bool
    uninstall: bool
    uninstall_guard: timedelta
    exempt: bool = False


class SpellState(StrEnum):
    """Where an idle spell stands; the last three are ends."""

    WARNING_PENDING = "warning_pending"
    WARNED = "warned"
    ENFORCING = "enforcing"
    ENFORCED = "enforced"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


OPEN_STATES = (SpellState.WARNING_PENDING, SpellState.WARNED, SpellState.ENFORCING)

# Every arrow and its cause; the store moves a spell along these only.
ARROWS: dict[SpellState, dict[SpellState, str]] = {
    SpellState.WARNING_PENDING: {
        SpellState.WARNED: "the broker confirmed the warning",
        SpellState.WITHDRAWN: "a call, or the operator's exemption",
        SpellState.EXPIRED: "nothing is left to cancel",
    },
    SpellState.WARNED: {
        SpellState.ENFORCING: "the deadline passed without a call",
        SpellState.WITHDRAWN: "a call, or the operator's exemption",
        SpellState.EXPIRED: "nothing is left to cancel",
    },
    SpellState.ENFORCING: {
        SpellState.ENFORCED: "every step is done",
        SpellState.WITHDRAWN: "a call came before anything was cancelled",
    },
}


@dataclass(frozen=True, slots=True)
class IdleSpell:
    """One user's unbroken time of not using one model he booked, from the warning on."""

    id: UUID
    model_id: UUID
    model_name: str
    user: User
    state: SpellState
    idle_since: datetime
    opened_at: datetime
    not_before: datetime
    slot: Slot
    delivered_at: datetime | None = None
    dry_run: bool = False

    @property
    def key(self) -> tuple[UUID, UUID]:
        """Whose spell it is: the model's id and the user's."""
        return (self.model_id, self.user.id)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the use of one booking; None in `first_seen_at`/`measured_since` means not known yet."""

    known: bool
    first_seen_at: datetime | None
    measured_since: datetime | None
    used_at: datetime | None
    resumed_at: datetime | None = None
    closed_at: datetime | None = None
    gaps: Iterable[Gap] = ()
    bookings_readable: bool = True
    freeable: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one active booking, and the numbers that led to it."""

    decision: Decision
    reason: Reason
    idle_since: datetime | None = None
    idle: timedelta = timedelta()
    not_before: datetime | None = None
    slots: tuple[Slot, ...] = ()


def open_spell(
    id: UUID, booking: ActiveBooking, verdict: Verdict, now: datetime, *, delivered: bool, dry_run: bool
) -> IdleSpell:
    """The spell that a warning begins; in a dry run nothing is delivered, yet the timeline goes on as if it were."""
    assert booking.current is not None
    assert verdict.idle_since is not None
    assert verdict.not_before is not None
    warned = delivered or dry_run
    return IdleSpell(
        id=id,
        model_id=booking.model.id,
        model_name=booking.model.name,
        user=booking.user,
        state=SpellState.WARNED if warned else SpellState.WARNING_PENDING,
        idle_since=verdict.idle_since,
        opened_at=now,
        not_before=verdict.not_before,
        slot=booking.current,
        delivered_at=now if warned else None,
        dry_run=dry_run,
    )


def judge(rule: IdleRule, booking: ActiveBooking, spell: IdleSpell | None, facts: Facts, now: datetime) -> Verdict:
    """The verdict on one active booking at `now`; both idle jobs act on the same one, each on its own part."""
    if rule.exempt:
        return Verdict(Decision.WITHDRAW if spell else Decision.HOLD, Reason.EXEMPT)
    if spell and facts.used_at and facts.used_at > spell.idle_since:
        return Verdict(
            Decision.WITHDRAW, Reason.USED_AGAIN, facts.used_at
        )  # a call is proof, whatever else is not known
    if not facts.known:
        return Verdict(Decision.HOLD, Reason.READING_UNKNOWN)
    if not facts.bookings_readable:
        return Verdict(Decision.HOLD, Reason.BOOKINGS_UNREADABLE)
    if facts.first_seen_at is None or facts.measured_since is None:
        return Verdict(Decision.HOLD, Reason.NOT_SEEN_RUNNING)
    if booking.current is None:
        return Verdict(Decision.HOLD, Reason.BETWEEN_SLOTS)
    slots = to_cancel(rule, booking, now)
    if not slots and not facts.freeable:
        return Verdict(Decision.EXPIRE if spell else Decision.HOLD, Reason.NOTHING_TO_CANCEL)
    return _by_time(rule, booking, spell, facts, slots, now)


def _by_time(
    rule: IdleRule,
    booking: ActiveBooking,
    spell: IdleSpell | None,
    facts: Facts,
    slots: tuple[Slot, ...],
    now: datetime,
) -> Verdict:
    since = anchor(booking, facts)
    unknown = unknown_time(facts.gaps, since, now)
    idle = now - since - unknown
    deadline = since + rule.limit + unknown
    if spell is None:
        if idle < rule.limit - rule.lead:
            return Verdict(Decision.HOLD, Reason.IN_USE, since, idle)
        return Verdict(Decision.WARN, Reason.UNUSED, since, idle, max(deadline, now + rule.lead), slots)
    if spell.delivered_at is None:
        return Verdict(Decision.HOLD, Reason.WARNING_UNDELIVERED, since, idle, slots=slots)
    deadline = max(deadline, spell.delivered_at + rule.lead, spell.not_before)
    if now < deadline:
        return Verdict(Decision.HOLD, Reason.WARNED_WAITING, since, idle, deadline, slots)
    return Verdict(Decision.CANCEL, Reason.DEADLINE_PASSED, since, idle, deadline, slots)


def anchor(booking: ActiveBooking, facts: Facts) -> datetime:
    """From when idle time counts: the latest of everything that excuses the user until then."""
    excuses = (
        booking.row_started_at,
        facts.first_seen_at,
        facts.measured_since,
        facts.used_at,
        facts.resumed_at,
        facts.closed_at,
    )
    return max(excuse for excuse in excuses if excuse is not None)


def to_cancel(rule: IdleRule, booking: ActiveBooking, now: datetime) -> tuple[Slot, ...]:
    """The slots a cancelling takes now: the following ones, and the current one only if so configured."""
    current = (booking.current,) if rule.cancel_current and booking.current else ()
    return current + booking.following(now, rule.mode)
