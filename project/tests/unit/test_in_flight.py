"""How long a POST or a DELETE may be under way, from the settings."""

from datetime import timedelta

import pytest

from limiter.wiring.times import deleting, in_flight
from tests.bench import settings_of

REQUIRED = {
    "DATABASE_URL": "postgresql+asyncpg://u@127.0.0.1/d",
    "RABBITMQ_URL": "amqp://127.0.0.1",
    "MODEL_REGISTRY_URL": "http://registry",
    "MODEL_DISPATCHER_URL": "http://dispatcher",
    "BOOKING_SERVICE_URL": "http://booking",
    "ENTRYPOINT_METRICS_URLS": "http://entrypoint/metrics",
    "HTTP_TIMEOUT_SECONDS": "5",
    "HTTP_RETRY_FIRST_SECONDS": "0.2",
    "LOCK_TRUST_SECONDS": "10",
}


@pytest.mark.parametrize(
    ("attempts", "skew", "seconds"), [("1", "0", 5 + 10), ("1", "4", 5 + 10 + 8), ("3", "0", 3 * 5 + 0.4 + 0.8 + 10)]
)
def test_a_post_is_under_way_for_all_its_attempts_their_pauses_a_frozen_sender_and_two_wrong_clocks(
    attempts: str, skew: str, seconds: float
) -> None:
    settings = settings_of(REQUIRED | {"HTTP_ATTEMPTS": attempts, "CLOCK_SKEW_LIMIT_SECONDS": skew})
    assert in_flight(settings) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("attempts", "more"), [("1", 0), ("3", 2 * 5)])
def test_a_delete_also_for_what_the_service_asks_for_before_each_repetition(attempts: str, more: float) -> None:
    settings = settings_of(REQUIRED | {"HTTP_ATTEMPTS": attempts})
    assert deleting(settings) - in_flight(settings) == timedelta(seconds=more)
