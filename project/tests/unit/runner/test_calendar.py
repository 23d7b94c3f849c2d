"""When a job with a calendar runs, by the wall clock: across both changes of summer time."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as some

from limiter.runner.calendar import MOST_MISSED, FireTimes, next_fire, waiting

BERLIN = ZoneInfo("Europe/Berlin")
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def calendar(expression: str) -> CronTrigger:
    return CronTrigger.from_crontab(expression, timezone=BERLIN)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(expression: str, since: str, until: str) -> list[str]:
    """Every fire time in (since, until], in UTC."""
    found, at = [], utc(since)
    while (at := next_fire(calendar(expression), at)) <= utc(until):
        found.append(f"{at:%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("30 1 * * *", ["28 00:30", "29 00:30", "29 23:30"]),
        ("0 2 * * *", ["28 01:00", "29 01:00", "30 00:00"]),  # 02:00 is skipped: at the jump
        ("30 2 * * *", ["28 01:30", "29 01:00", "30 00:30"]),
        ("0,30 2 * * *", ["28 01:00", "28 01:30", "29 01:00", "30 00:00", "30 00:30"]),
        ("0 3 * * *", ["28 02:00", "29 01:00", "30 01:00"]),
        ("30 2,3 * * *", ["28 01:30", "28 02:30", "29 01:00", "29 01:30", "30 00:30", "30 01:30"]),
    ],
)
def test_a_time_that_is_skipped_is_run_once_when_the_clocks_jump(expression: str, found: list[str]) -> None:
    assert fires(expression, "2026-03-27T22:30", "2026-03-30T12:00") == found


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("30 1 * * *", ["24 23:30", "26 00:30"]),
        ("0 2 * * *", ["25 00:00", "26 01:00"]),
        ("30 2 * * *", ["25 00:30", "26 01:30"]),
        ("0 3 * * *", ["25 02:00", "26 02:00"]),
        ("30 1,2,3 * * *", ["24 23:30", "25 00:30", "25 02:30", "26 00:30", "26 01:30", "26 02:30"]),
        ("0 */2 * * *", ["24 22:00", "25 00:00", "25 03:00", "25 05:00"]),
    ],
)
def test_a_time_that_comes_twice_is_run_once(expression: str, found: list[str]) -> None:
    until = "2026-10-25T06:00" if "*/2" in expression else "2026-10-26T12:00"
    assert fires(expression, "2026-10-24T21:59", until) == found


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        ("2026-03-29T00:29", "2026-03-29T02:00", ["29 00:30", "29 01:00", "29 01:30", "29 02:00"]),
        ("2026-10-24T23:59", "2026-10-25T02:00", ["25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00"]),
    ],
)
def test_every_half_hour_stays_every_half_hour(since: str, until: str, found: list[str]) -> None:
    assert fires("*/30 * * * *", since, until) == found


@pytest.mark.parametrize("asked", ["2026-10-25T00:30", "2026-10-25T00:45", "2026-10-25T01:15", "2026-10-25T01:30"])
def test_between_the_two_the_next_is_tomorrow(asked: str) -> None:
    """02:30, 02:45, 02:15 and 02:30 by the clock."""
    assert next_fire(calendar("30 2 * * *"), utc(asked)) == utc("2026-10-26T01:30")


def test_a_fire_time_is_not_after_itself() -> None:
    at = utc("2026-07-01T01:00")
    assert next_fire(calendar("0 3 * * *"), at - SECOND) == at
    assert next_fire(calendar("0 3 * * *"), at) == at + DAY


def test_weekdays_are_those_of_the_time_zone() -> None:
    """Monday 00:30 in Berlin is Sunday in UTC."""
    assert next_fire(calendar("30 0 * * mon"), utc("2026-07-01T00:00")) == utc("2026-07-05T22:30")


EXPRESSIONS = some.builds(
    "{} {} * * *".format,
    some.sampled_from(["0", "15", "0,30", "*/20", "*"]),
    some.sampled_from(["0", "2", "3", "1-3", "*/2", "*"]),
)
MOMENTS = some.one_of(
    some.datetimes(datetime.fromisoformat("2026-03-28T12:00"), datetime.fromisoformat("2026-03-29T12:00")),
    some.datetimes(datetime.fromisoformat("2026-10-24T12:00"), datetime.fromisoformat("2026-10-25T12:00")),
).map(lambda naive: naive.replace(tzinfo=UTC))


@given(EXPRESSIONS, MOMENTS, some.timedeltas(timedelta(), DAY))
def test_whoever_asks_in_between_is_told_the_same(expression: str, asked: datetime, more: timedelta) -> None:
    """Replicas ask at different moments: none may see a fire time that another does not."""
    trigger = calendar(expression)
    fire = next_fire(trigger, asked)
    assert fire > asked
    later = asked + more
    assert next_fire(trigger, later) == fire if later < fire else next_fire(trigger, later) > fire


@pytest.mark.parametrize(
    ("since", "now", "found"),
    [
        ("2026-07-01T01:00", "2026-07-01T00:59:59", None),
        ("2026-07-01T01:00", "2026-07-01T01:00", FireTimes(utc("2026-07-01T01:00"), 0)),
        ("2026-07-01T01:00", "2026-07-02T00:59:59", FireTimes(utc("2026-07-01T01:00"), 0)),
        ("2026-07-01T01:00", "2026-07-02T01:00", FireTimes(utc("2026-07-02T01:00"), 1)),
        ("2026-07-01T01:00", "2026-07-04T12:00", FireTimes(utc("2026-07-04T01:00"), 3)),
        ("2026-07-01T01:00:01", "2026-07-01T12:00", None),  # a row written since the last fire time
        ("2026-10-25T01:30", "2026-10-25T12:00", None),  # the second 02:30
    ],
)
def test_of_the_times_that_were_missed_the_latest_is_caught_up(since: str, now: str, found: FireTimes | None) -> None:
    expression = "30 2 * * *" if since.startswith("2026-10") else "0 3 * * *"
    assert waiting(calendar(expression), utc(since), utc(now)) == found


def test_what_was_missed_for_very_long_is_not_counted_to_the_end() -> None:
    found = waiting(calendar("* * * * *"), utc("2026-01-01T00:00"), utc("2026-12-01T00:00"))
    assert found is not None
    assert found.missed == MOST_MISSED
