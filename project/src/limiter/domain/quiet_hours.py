"""Quiet hours: a part of every day in which nobody is warned or cancelled, by the wall clock of a time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from limiter.domain.wall_clock import instant


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` to `end` on the wall clock; an `end` before `start` is on the next day. Equal: no quiet hours.

    On the days on which clocks change, a wall time that does not exist is taken as the instant at which the clocks
    jump, and of one that comes twice the first counts for the start and the second for the end.
    """

    start: time
    end: time
    zone: tzinfo = UTC

    def open_from(self, now: datetime) -> datetime:
        """The first instant from `now` on that is not quiet; `now` itself if it is not."""
        if self.start == self.end:
            return now
        opens = now
        for start, end in self._around(now):  # in order; two may overlap where clocks are put back
            if start <= opens < end:
                opens = end
        return opens

    def after(self, since: datetime, duration: timedelta) -> datetime:
        """When so much time outside the quiet hours has passed from `since` on."""
        if self.start == self.end:
            return since + duration
        at = self.open_from(since)
        while True:
            next_quiet = min(start for start, _ in self._around(at) if start > at)
            if at + duration <= next_quiet:
                return at + duration
            duration -= next_quiet - at
            at = self.open_from(next_quiet)

    def _around(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """The quiet stretches of the days around an instant, in UTC; none that a jump of the clocks leaves empty."""
        today = now.astimezone(self.zone).date()
        overnight = timedelta(days=1 if self.end <= self.start else 0)
        days = [today + timedelta(days=number) for number in range(-1, 3)]
        stretches = [
            (
                instant(datetime.combine(day, self.start), self.zone),
                instant(datetime.combine(day + overnight, self.end), self.zone, last=True),
            )
            for day in days
        ]
        return [(start, end) for start, end in stretches if start < end]


NEVER_QUIET = QuietHours(time(), time())
