"""The settings that warning and cancelling are decided by, and the rules they make."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment, given, seconds
from limiter.config.overrides import Override
from limiter.domain.idle_rule import IdleRule
from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.reservations import UnbookingMode


class IdlenessSettings(FromEnvironment):
    """What decides about warning and cancelling; `example.env` says what each means."""

    idle_limit_seconds: kind.Seconds = 3600
    idle_warning_lead_seconds: kind.Seconds = 900
    unbooking_mode: UnbookingMode = UnbookingMode.IN_ROW
    unbooking_row_gap_seconds: kind.SecondsOrZero = 300
    unbook_current_slot: bool = False
    uninstall_on_idle: bool = False
    uninstall_guard_seconds: kind.SecondsOrZero = 1800
    uninstall_tell_seconds: kind.SecondsOrZero = 120
    keep_longest_seconds: kind.Seconds = 604_800
    idle_surge_min: Annotated[int, Field(ge=0, le=100_000)] = 20
    idle_surge_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    idle_surge_window_seconds: kind.Seconds = 1800
    timezone: kind.TimeZone = "UTC"
    idle_quiet_hours: kind.Hours = ""
    idle_enforce_max_per_run: kind.Count = 10

    def idle_rule(self, own: Override) -> IdleRule:
        """The rule by which the users of a model with these overrides are warned and cancelled."""
        return IdleRule(
            limit=seconds(given(own.idle_limit_seconds, self.idle_limit_seconds)),
            lead=seconds(given(own.idle_warning_lead_seconds, self.idle_warning_lead_seconds)),
            mode=given(own.unbooking_mode, self.unbooking_mode),
            row_gap=seconds(given(own.unbooking_row_gap_seconds, self.unbooking_row_gap_seconds)),
            cancel_current=given(own.unbook_current_slot, self.unbook_current_slot),
            uninstall=given(own.uninstall_on_idle, self.uninstall_on_idle),
            uninstall_guard=seconds(given(own.uninstall_guard_seconds, self.uninstall_guard_seconds)),
            exempt=own.exempt,
            uninstall_tell=seconds(given(own.uninstall_tell_seconds, self.uninstall_tell_seconds)),
            quiet=self._quiet_hours(),
        )

    def _quiet_hours(self) -> QuietHours:
        if not self.idle_quiet_hours:
            return NEVER_QUIET
        return QuietHours(*kind.hours(self.idle_quiet_hours), ZoneInfo(self.timezone))
