"""A small fleet with traffic, and reservations around now."""

from __future__ import annotations

from dev.fake_platform.platform import Platform

HOUR = 3600
ANNA = ("5b0d8f0e-6b55-4c0a-9f5e-0f6a4f1c2a01", "anna")
BORIS = ("5b0d8f0e-6b55-4c0a-9f5e-0f6a4f1c2a02", "boris")

BUSY = "Sber/GigaChat-Max-V2"
QUIET = "Openai/Gpt-oss-120b"
UNUSED = "Google/Medgemma-27b-it"


def add_sample_fleet(platform: Platform, now: float) -> None:
    """Add a model too small for its traffic, one too large, and one that is booked and not called; `now` in Unix s."""
    busy = platform.add_model(BUSY, replicas=1)
    quiet = platform.add_model(QUIET, replicas=4)
    unused = platform.add_model(UNUSED, replicas=1)
    platform.set_rate(BUSY, 42)
    platform.set_rate(QUIET, 3)
    platform.call(UNUSED, 31)
    start = now - 2 * HOUR
    day = [(start + place * 4 * HOUR, start + (place + 1) * 4 * HOUR) for place in range(6)]
    platform.add_reservation(*ANNA, BUSY, day, busy.id)
    platform.add_reservation(*BORIS, QUIET, day[:2], quiet.id)
    platform.add_reservation(*ANNA, UNUSED, day[:3], unused.id)
    platform.add_reservation(*BORIS, UNUSED, day[4:], unused.id)
