"""Booked time: how long slots cover a stretch of time, and when they will have covered so much."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from limiter.domain.reservations import Slot
from limiter.domain.usage import Gap

Stretch = tuple[datetime, datetime]


def booked_time(slots: Iterable[Slot], since: datetime, until: datetime, gaps: Iterable[Gap] = ()) -> timedelta:
    """How much of the time between the two instants the slots cover, without what lies in a gap of any target."""
    booked = _merged(((slot.start, slot.end) for slot in slots), since, until)
    unknown = _merged(((gap.since, gap.until) for gap in gaps), since, until)
    lost = sum((_overlap(stretch, gap) for stretch in booked for gap in unknown), timedelta())
    return sum((end - start for start, end in booked), timedelta()) - lost


def reached_at(slots: Iterable[Slot], now: datetime, wanted: timedelta) -> datetime | None:
    """When the slots will have covered `wanted` more from `now` on; None if they end before."""
    if wanted <= timedelta():
        return now
    for start, end in _merged(((slot.start, slot.end) for slot in slots), now, datetime.max.replace(tzinfo=now.tzinfo)):
        if end - start >= wanted:
            return start + wanted
        wanted -= end - start
    return None


def _merged(stretches: Iterable[Stretch], since: datetime, until: datetime) -> list[Stretch]:
    """The stretches within the two instants, in order, joined where they overlap or touch."""
    merged: list[Stretch] = []
    for start, end in sorted(stretches):
        start, end = max(start, since), min(end, until)
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _overlap(one: Stretch, other: Stretch) -> timedelta:
    return max(timedelta(), min(one[1], other[1]) - max(one[0], other[0]))
