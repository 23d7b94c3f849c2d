"""Instants of wall-clock times, also where clocks are changed."""

from datetime import UTC, datetime, timedelta, tzinfo

SECOND = timedelta(seconds=1)
# What happens after a run has begun may be of a time to come for it; of more than that, the clock was set back since.
SET_BACK = timedelta(minutes=10)


def instant(wall: datetime, zone: tzinfo, *, last: bool = False) -> datetime:
    """When the clocks of a zone show `wall`, a time without a zone; in UTC.

    A time that comes twice is meant the first time, or the `last`; one that is skipped is the instant of the jump.
    """
    local = wall.replace(tzinfo=zone, fold=1 if last else 0)
    found = local.astimezone(UTC)
    return found if _wall(found, zone) == wall else _jump(wall, zone)


def _wall(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _jump(wall: datetime, zone: tzinfo) -> datetime:
    """The first second at which the clocks show a later time than a skipped one."""
    local = wall.replace(tzinfo=zone, microsecond=0)
    before, after = sorted(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    while after - before > SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        before, after = (middle, after) if _wall(middle, zone) < wall else (before, middle)
    return after
