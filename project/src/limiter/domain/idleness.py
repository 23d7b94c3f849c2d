"""When a booked model counts as unused, and what follows: wait, warn, withdraw or cancel.

Idle time is booked idle time: it runs while a slot of the user covers now, pauses between his slots, and starts anew at
the latest excuse. A warning says which slots it puts at risk and when at the earliest; nothing else is ever cancelled.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.booked_time import Stretch, booked_time, reached_at
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_rule import IdleRule, at_risk, counted
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.reservations import UnbookingMode
from limiter.domain.usage import Gap
from limiter.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the use of one booking; None in `first_seen_at`/`measured_since` means not known yet.

    `freeable` is whether the model would be uninstalled now, `barred` when slots forbid it; `kept` whether somebody
    asked to keep the booking.
    """

    known: bool
    first_seen_at: datetime | None
    measured_since: datetime | None
    used_at: datetime | None
    resumed_at: datetime | None = None
    closed_at: datetime | None = None
    keep_ended_at: datetime | None = None
    gaps: Iterable[Gap] = ()
    bookings_readable: bool = True
    freeable: bool = False
    barred: Iterable[Stretch] = ()
    kept: bool = False


def judge(rule: IdleRule, booking: ActiveBooking, facts: Facts, now: datetime) -> Verdict:
    """The verdict on a booking without an open spell at `now`: to warn, or why not."""
    excused = _excused(rule, facts)
    if excused is not None:
        return Verdict(Decision.HOLD, excused)
    if booking.current is None:
        return Verdict(Decision.HOLD, Reason.BETWEEN_SLOTS)
    since, idle = _idle(rule, booking, facts, now, None)
    if idle < rule.limit - rule.lead:
        return Verdict(Decision.HOLD, Reason.IN_USE, since, idle)
    reached = reached_at(counted(rule, booking), now, rule.limit - idle)
    if reached is None:  # his slots end before he could be cancelled
        return Verdict(Decision.HOLD, Reason.NOTHING_TO_CANCEL, since, idle)
    deadline = rule.earliest(reached, now)
    slots = at_risk(rule, booking, deadline)
    if not slots and not _would_be_freed(rule, booking, facts, deadline):
        return Verdict(Decision.HOLD, Reason.NOTHING_TO_CANCEL, since, idle)
    if rule.quiet.open_from(now) != now:
        return Verdict(Decision.HOLD, Reason.QUIET_HOURS, since, idle, deadline, slots)
    return Verdict(Decision.WARN, Reason.UNUSED, since, idle, deadline, slots)


def judge_spell(
    rule: IdleRule, booking: ActiveBooking | None, spell: IdleSpell, facts: Facts, now: datetime
) -> Verdict:
    """The verdict on an open spell at `now`: to wait, to withdraw or to cancel; None of a booking: no slot is left."""
    if rule.exempt or facts.kept:
        return Verdict(Decision.WITHDRAW, Reason.EXEMPT if rule.exempt else Reason.KEPT)
    if facts.used_at and facts.used_at > spell.idle_since:
        # A call is proof, whatever else is not known.
        return Verdict(Decision.WITHDRAW, Reason.USED_AGAIN, facts.used_at)
    excused = _excused(rule, facts)
    if excused is not None:
        return Verdict(Decision.HOLD, excused)
    if booking is None or not booking.ends_after(now):
        return Verdict(Decision.WITHDRAW, Reason.BOOKING_GONE)
    left = booking.still_booked(spell.named, now)
    if not _lives_on(rule, booking, spell) or not (left or facts.freeable):
        return Verdict(Decision.WITHDRAW, Reason.NOTHING_TO_CANCEL)
    since, idle = _idle(rule, booking, facts, now, spell)
    quiet = rule.quiet.open_from(now) != now
    if spell.delivered_at is None:  # in the quiet hours it is held back, whatever the broker would say
        reason = Reason.QUIET_HOURS if quiet else Reason.WARNING_UNDELIVERED
        return Verdict(Decision.HOLD, reason, since, idle, slots=left)
    deadline = rule.earliest(spell.not_before, spell.delivered_at)
    if now < deadline or idle < rule.limit:
        return Verdict(Decision.HOLD, Reason.WARNED_WAITING, since, idle, deadline, left)
    if quiet:
        return Verdict(Decision.HOLD, Reason.QUIET_HOURS, since, idle, deadline, left)
    return Verdict(Decision.CANCEL, Reason.DEADLINE_PASSED, since, idle, deadline, left)


def _would_be_freed(rule: IdleRule, booking: ActiveBooking, facts: Facts, deadline: datetime) -> bool:
    """Whether, as it is booked now, the user would hold the model at the deadline, and nobody would need it."""
    held = any(slot.end > deadline for slot in counted(rule, booking))
    return facts.freeable and held and not any(start <= deadline < end for start, end in facts.barred)


def _lives_on(rule: IdleRule, booking: ActiveBooking, spell: IdleSpell) -> bool:
    """Whether the user still holds what he was warned about: in `IN_ROW` the row, in `ALL` any slot.

    Another row has its own N and its own warning, also for a slot that this one named.
    """
    if rule.mode is UnbookingMode.ALL:
        return True
    return bool(booking.row) and booking.row[0].start <= spell.opened_at


def _excused(rule: IdleRule, facts: Facts) -> Reason | None:
    """Why nothing can be said about use, or nothing is to be done about it."""
    if rule.exempt:
        return Reason.EXEMPT
    if facts.kept:
        return Reason.KEPT
    if not facts.known:
        return Reason.READING_UNKNOWN
    if not facts.bookings_readable:
        return Reason.BOOKINGS_UNREADABLE
    if facts.first_seen_at is None or facts.measured_since is None:
        return Reason.NOT_SEEN_RUNNING
    return None


def _idle(
    rule: IdleRule, booking: ActiveBooking, facts: Facts, now: datetime, spell: IdleSpell | None
) -> tuple[datetime, timedelta]:
    """Since when idle time counts, and how much of it has been booked and measured."""
    since = anchor(rule, booking, facts, spell)
    return since, booked_time(counted(rule, booking), since, now, facts.gaps)


def anchor(rule: IdleRule, booking: ActiveBooking, facts: Facts, spell: IdleSpell | None = None) -> datetime:
    """From when idle time counts: the latest of everything that excuses the user until then."""
    slots = counted(rule, booking)
    excuses = (
        slots[0].start if slots else None,
        facts.first_seen_at,
        facts.measured_since,
        facts.used_at,
        facts.resumed_at,
        facts.closed_at,
        facts.keep_ended_at,
        spell.idle_since if spell else None,
    )
    return max(excuse for excuse in excuses if excuse is not None)
