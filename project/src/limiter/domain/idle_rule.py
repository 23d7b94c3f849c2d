"""The idle policy of one model name, and what it makes of a user's slots."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.reservations import Slot, UnbookingMode


@dataclass(frozen=True, slots=True)
class IdleRule:
    """The idle policy for one model name: warn after limit - lead of booked idle time, cancel after limit."""

    limit: timedelta
    lead: timedelta
    mode: UnbookingMode
    row_gap: timedelta
    cancel_current: bool
    uninstall: bool
    uninstall_guard: timedelta
    exempt: bool = False
    uninstall_tell: timedelta = timedelta(seconds=120)
    quiet: QuietHours = NEVER_QUIET

    def earliest(self, not_before: datetime, delivered_at: datetime) -> datetime:
        """When a warning delivered then may be enforced: `lead` later, not in quiet hours, not before `not_before`."""
        return self.quiet.open_from(max(not_before, self.quiet.after(delivered_at, self.lead)))


def counted(rule: IdleRule, booking: ActiveBooking) -> tuple[Slot, ...]:
    """The slots whose time counts as idle time: of the row, or all of the user and model."""
    return booking.row if rule.mode is UnbookingMode.IN_ROW else booking.slots


def at_risk(rule: IdleRule, booking: ActiveBooking, deadline: datetime) -> tuple[Slot, ...]:
    """The slots that a warning names: those from the deadline on, and the current one if so configured."""
    current = booking.current if rule.cancel_current else None
    return tuple(
        slot for slot in counted(rule, booking) if slot.start >= deadline or (slot == current and slot.end > deadline)
    )
