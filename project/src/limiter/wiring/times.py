"""The clock, and the durations that follow from the settings."""

from datetime import UTC, datetime, timedelta

from limiter.config.base import seconds
from limiter.config.settings import Settings


def utc_now() -> datetime:
    """The clock of everything that decides."""
    return datetime.now(UTC)


def in_flight(settings: Settings) -> timedelta:
    """How long after it was recorded a POST may still be under way: all attempts and their pauses.

    Before it the sender may have frozen for as long as it trusts its lock; the two clocks may be off, either way.
    """
    pauses = sum(settings.http_retry_first_seconds * 2**attempt for attempt in range(1, settings.http_attempts))
    calls = settings.http_attempts * settings.http_timeout_seconds
    return seconds(calls + pauses + settings.lock_trust_seconds + 2 * settings.clock_skew_limit_seconds)


def deleting(settings: Settings) -> timedelta:
    """The same of a DELETE, before whose repetition the service may ask to be left alone for as long as a call takes.

    A POST is repeated only where nothing was answered.
    """
    return in_flight(settings) + seconds((settings.http_attempts - 1) * settings.http_timeout_seconds)
