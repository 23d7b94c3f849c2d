"""Nobody is warned or cancelled in the quiet hours, and the time to react to a warning does not run in them."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.wall_clock import instant

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(time(22), time(8), BERLIN)  # 22:00-08:00
NOON = QuietHours(time(12), time(14), BERLIN)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
WINTER, SUMMER = "2026-01-15", "2026-07-15"
FORWARD, BACK = "2026-03-29", "2026-10-25"  # 02:00 becomes 03:00, 03:00 becomes 02:00 once more


def at(text: str, fold: int = 0) -> datetime:
    """A moment by Berlin's clock."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


@pytest.mark.parametrize("day", [WINTER, SUMMER, FORWARD, BACK])
@pytest.mark.parametrize(
    ("quiet", "start", "end"),
    [(NIGHT, "22:00", "08:00"), (NOON, "12:00", "14:00")],
    ids=["overnight", "within a day"],
)
def test_the_start_is_quiet_and_the_end_is_not(quiet: QuietHours, day: str, start: str, end: str) -> None:
    starts, ends = at(f"{day}T{start}"), at(f"{day}T{end}")
    assert quiet.open_from(starts - SECOND) == starts - SECOND
    assert quiet.open_from(starts) > starts
    assert quiet.open_from(ends - SECOND) == ends
    assert quiet.open_from(ends) == ends


@pytest.mark.parametrize(
    ("evening", "hours"), [("2026-01-15", 10), ("2026-03-28", 9), ("2026-10-24", 11), ("2026-07-15", 10)]
)
def test_a_night_is_as_long_as_it_really_is(evening: str, hours: int) -> None:
    starts = at(f"{evening}T22:00")
    assert NIGHT.open_from(starts) - starts == hours * HOUR


def test_at_midnight_it_is_still_the_same_night() -> None:
    assert NIGHT.open_from(at("2026-01-15T23:59:59")) == at("2026-01-16T08:00")
    assert NIGHT.open_from(at("2026-01-16T00:00")) == at("2026-01-16T08:00")


@pytest.mark.parametrize("until", [time(0), time(23, 59)])
def test_hours_that_touch_midnight(until: time) -> None:
    quiet = QuietHours(time(18), until)
    end = datetime.combine(datetime.fromisoformat("2026-01-15"), until, UTC) + (
        timedelta(days=1) if until == time(0) else timedelta()
    )
    assert quiet.open_from(datetime(2026, 1, 15, 18, tzinfo=UTC)) == end
    assert quiet.open_from(end) == end


def test_without_quiet_hours_every_moment_is_open_and_time_simply_passes() -> None:
    now = at("2026-01-15T03:00")
    assert NEVER_QUIET.open_from(now) == now
    assert NEVER_QUIET.after(now, 100 * HOUR) == now + 100 * HOUR
    assert NEVER_QUIET.open_from(datetime.max.replace(tzinfo=UTC)) == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "minutes", "reached"),
    [
        ("2026-01-15T12:00", 15, "2026-01-15T12:15"),
        ("2026-01-15T21:00", 60, "2026-01-15T22:00"),  # just before the night
        ("2026-01-15T21:00", 61, "2026-01-16T08:01"),
        ("2026-01-15T22:00", 15, "2026-01-16T08:15"),
        ("2026-01-15T23:30", 15, "2026-01-16T08:15"),
        ("2026-01-16T03:00", 15, "2026-01-16T08:15"),
        ("2026-01-15T21:45", 14 * 60 + 30, "2026-01-17T08:15"),  # a whole day between two nights
        ("2026-03-28T21:45", 30, "2026-03-29T08:15"),
        ("2026-10-24T21:45", 30, "2026-10-25T08:15"),
    ],
)
def test_time_does_not_run_in_the_quiet_hours(since: str, minutes: int, reached: str) -> None:
    assert NIGHT.after(at(since), timedelta(minutes=minutes)) == at(reached)


@pytest.mark.parametrize(("day", "reached"), [(FORWARD, "T05:00"), (BACK, "T03:00")])
def test_a_duration_is_real_time_where_the_clocks_change(day: str, reached: str) -> None:
    """Three hours from 01:00 on: 02:00 is skipped on one day, and comes twice on the other."""
    assert NOON.after(at(f"{day}T01:00"), 3 * HOUR) == at(day + reached)


def test_a_duration_of_nothing_ends_at_once_or_at_the_end_of_the_quiet_hours() -> None:
    assert NIGHT.after(at("2026-01-15T12:00"), timedelta()) == at("2026-01-15T12:00")
    assert NIGHT.after(at("2026-01-15T23:00"), timedelta()) == at("2026-01-16T08:00")


def test_a_start_that_comes_twice_counts_the_first_time_and_an_end_the_second() -> None:
    quiet = QuietHours(time(2, 15), time(2, 45), BERLIN)
    first, second = at(f"{BACK}T02:15"), at(f"{BACK}T02:45", fold=1)
    assert quiet.open_from(first - SECOND) == first - SECOND
    assert quiet.open_from(first) == second
    assert quiet.open_from(at(f"{BACK}T02:50")) == second  # between the two


@pytest.mark.parametrize(
    ("start", "end", "opens"),
    [
        (time(0), time(2, 30), "03:00"),  # the end is skipped
        (time(2, 30), time(5), "05:00"),  # the start is
    ],
)
def test_a_skipped_time_is_the_moment_of_the_jump(start: time, end: time, opens: str) -> None:
    quiet, jump = QuietHours(start, end, BERLIN), at(f"{FORWARD}T03:00")
    begins = at(f"{FORWARD}T00:00") if start == time(0) else jump
    assert quiet.open_from(begins - SECOND) == begins - SECOND
    assert quiet.open_from(begins) == at(f"{FORWARD}T{opens}")
    assert quiet.open_from(jump - SECOND) == (jump if start == time(0) else jump - SECOND)


def test_hours_that_are_skipped_whole_are_not_there_on_that_day() -> None:
    quiet = QuietHours(time(2, 15), time(2, 45), BERLIN)
    noon_before = at("2026-03-28T12:00")
    assert quiet.open_from(at(f"{FORWARD}T03:00")) == at(f"{FORWARD}T03:00")
    assert quiet.after(noon_before, 20 * HOUR) == noon_before + 20 * HOUR
    assert quiet.open_from(at("2026-03-30T02:20")) == at("2026-03-30T02:45")


def test_two_stretches_that_run_into_each_other_are_one() -> None:
    """02:30-02:15: that of the day before ends at the second 02:15, when the next has begun at the first 02:30."""
    quiet = QuietHours(time(2, 30), time(2, 15), BERLIN)
    assert quiet.open_from(at(f"{BACK}T01:00")) == at("2026-10-26T02:15")


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
times = some.builds(time, some.integers(0, 23), some.sampled_from([0, 1, 15, 30, 45, 59]))
hours = some.builds(QuietHours, times, times, some.sampled_from(ZONES).map(ZoneInfo)).filter(
    lambda quiet: quiet.start != quiet.end
)
# The changes of clocks are where it can go wrong: all of 2026, and the day that Apia skipped.
moments = some.one_of(
    some.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2027-01-01")),
    some.datetimes(datetime.fromisoformat("2026-03-28"), datetime.fromisoformat("2026-03-31")),
    some.datetimes(datetime.fromisoformat("2026-10-24"), datetime.fromisoformat("2026-10-27")),
    some.datetimes(datetime.fromisoformat("2011-12-28"), datetime.fromisoformat("2012-01-02")),
).map(lambda naive: naive.replace(microsecond=0, tzinfo=UTC))
durations = some.timedeltas(timedelta(), timedelta(days=1)).map(lambda given: timedelta(seconds=given // SECOND))


@given(hours, moments)
@example(QuietHours(time(2, 30), time(2, 15), BERLIN), at(f"{BACK}T01:00"))
def test_what_is_open_is_never_within_the_hours(quiet: QuietHours, now: datetime) -> None:
    opens = quiet.open_from(now)
    assert opens >= now
    assert quiet.open_from(opens) == opens
    wall = opens.astimezone(quiet.zone).time()
    assert not _within(quiet, wall) or _near_a_change(opens, quiet)


@given(hours, moments)
def test_what_is_not_within_the_hours_is_open(quiet: QuietHours, now: datetime) -> None:
    if not _within(quiet, now.astimezone(quiet.zone).time()) and not _near_a_change(now, quiet):
        assert quiet.open_from(now) == now


@settings(deadline=None)
@given(hours, moments, some.timedeltas(timedelta(), timedelta(days=2)))
def test_later_is_never_earlier(quiet: QuietHours, now: datetime, more: timedelta) -> None:
    assert quiet.open_from(now) <= quiet.open_from(now + more)
    assert quiet.after(now, HOUR) <= quiet.after(now + more, HOUR)
    assert quiet.after(now, HOUR) <= quiet.after(now, HOUR + more / 48)


@settings(deadline=None, max_examples=settings().max_examples // 2)
@given(hours, moments, durations)
def test_outside_the_hours_exactly_the_duration_passes(quiet: QuietHours, now: datetime, duration: timedelta) -> None:
    ends = quiet.after(now, duration)
    assert _open_time(quiet, now, ends) == duration


def _open_time(quiet: QuietHours, since: datetime, until: datetime) -> timedelta:
    """Minute for minute: all quiet hours begin and end on one."""
    total, at = timedelta(), quiet.open_from(since)
    while at < until:
        step = min(at.replace(second=0) + timedelta(minutes=1), until)
        total += step - at
        at = quiet.open_from(step)
    return total


def _within(quiet: QuietHours, wall: time) -> bool:
    if quiet.start < quiet.end:
        return quiet.start <= wall < quiet.end
    return wall >= quiet.start or wall < quiet.end


def _near_a_change(now: datetime, quiet: QuietHours) -> bool:
    offsets = {(now + days * timedelta(days=1)).astimezone(quiet.zone).utcoffset() for days in (-1, 1)}
    return len(offsets) > 1


@pytest.mark.parametrize(
    ("wall", "zone", "first", "second"),
    [
        ("2026-03-29T01:59:59", "Europe/Berlin", "00:59:59", "00:59:59"),
        ("2026-03-29T02:00", "Europe/Berlin", "01:00", "01:00"),
        ("2026-03-29T02:59:59.5", "Europe/Berlin", "01:00", "01:00"),
        ("2026-03-29T03:00", "Europe/Berlin", "01:00", "01:00"),
        ("2026-10-25T01:59:59", "Europe/Berlin", "23:59:59", "23:59:59"),
        ("2026-10-25T02:00", "Europe/Berlin", "00:00", "01:00"),
        ("2026-10-25T02:59:59", "Europe/Berlin", "00:59:59", "01:59:59"),
        ("2026-10-25T03:00", "Europe/Berlin", "02:00", "02:00"),
        ("2026-10-04T02:10", "Australia/Lord_Howe", "15:30", "15:30"),  # forward by half an hour
        ("2011-12-30T12:00", "Pacific/Apia", "10:00", "10:00"),  # a day that never was
    ],
)
def test_a_wall_time_is_an_instant(wall: str, zone: str, first: str, second: str) -> None:
    found = [instant(datetime.fromisoformat(wall), ZoneInfo(zone), last=last) for last in (False, True)]
    assert [f"{one:%H:%M:%S}".removesuffix(":00") for one in found] == [first, second]
    assert {one.tzinfo for one in found} == {UTC}
