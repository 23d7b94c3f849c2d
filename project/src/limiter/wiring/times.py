"""The clock, and durations."""

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The clock of everything that decides."""
    return datetime.now(UTC)


def seconds(value: float) -> timedelta:
    """A setting as a duration."""
    return timedelta(seconds=value)
