"""The scaling policy of one model name."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

# Replicas: more than any maximum allows, and few enough to be counted one by one in a float.
MANY = 10**9


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """The scaling policy for one model name; rates in calls per second.

    A `burst_factor` of 0 knows no bursts, a `lead_most` of 1 does not look ahead, a `down_step` of 0 is no bound.
    """

    target_rps: float
    tolerance: float
    headroom: float
    min_replicas: int
    max_replicas: int
    up_window: timedelta
    down_window: timedelta
    up_stabilization: timedelta
    down_stabilization: timedelta
    exempt: bool = False
    burst_factor: float = 0.0
    lead_most: float = 1.0
    lead_default: timedelta = timedelta(0)
    down_step: int = 1
    by_calendar: bool = False
    burst_window: timedelta = timedelta(0)  # in a shorter tick, calls that come together look like a burst

    @property
    def slope_window(self) -> timedelta:
        """How long each of the two windows is that show how the load grows."""
        return 2 * self.up_window

    def is_outage(self, unseen: timedelta) -> bool:
        """Whether so long a time between two readings, far longer than all that is waited for, is no tick.

        By a calendar, ticks are as long as somebody wants.
        """
        waited = max(self.up_window, self.down_window, self.up_stabilization, self.down_stabilization)
        return not self.by_calendar and unseen > 2 * waited

    def hides(self, unseen: timedelta, calls: float, replicas: int) -> bool:
        """Whether a mean over such a long time between two readings may hide a load that fewer could not carry.

        It may if all the calls can have come last. By a calendar, ticks are as long as somebody wants.
        """
        long = not self.by_calendar and unseen > 2 * max(self.up_window, self.down_window)
        return long and calls / self.up_window.total_seconds() > self.headroom * self.target_rps * (replicas - 1)

    @property
    def memory(self) -> timedelta:
        """How far back calls have to be remembered."""
        return max(self.up_window, self.down_window, 2 * self.slope_window if self.lead_most > 1 else self.up_window)

    def fewest(self, rps: float) -> int:
        """The fewest replicas that carry this with the headroom, by the sum of `underused`, whatever the rounding."""
        each = self.headroom * self.target_rps
        about = replicas_for(rps, each)
        return next((replicas for replicas in (max(0, about - 1), about, about + 1) if rps <= each * replicas), about)


def replicas_for(rps: float, each: float) -> int:
    """How many replicas carry this if each carries so much, rounded up; at most `MANY`."""
    return MANY if rps > each * MANY else ceil(rps / each) if each else 0
