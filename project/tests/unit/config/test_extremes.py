"""Values that no settings can be made of, however they are written."""

import pytest

from tests.unit.config.test_settings import refused, settings


@pytest.mark.parametrize("value", ["1e-320", "0.0000009"])
def test_a_duration_too_short_to_be_one_is_refused(value: str) -> None:
    text = refused(SCALE_UP_WINDOW_SECONDS=value, RPS_CHECK_CRON="* * * * *")
    assert text == f"SCALE_UP_WINDOW_SECONDS='{value}': must be at least 0.000001: what is shorter counts as 0"
    assert "POLICY_OVERRIDES" in refused(POLICY_OVERRIDES=f'{{"m": {{"idle_limit_seconds": {value}}}}}')


def test_a_microsecond_is_a_duration_and_0_is_one_where_it_may_be() -> None:
    assert settings(HTTP_RETRY_FIRST_SECONDS="0.000001").http_retry_first_seconds == 1e-6
    assert settings(SCALE_COOLDOWN_SECONDS="0").scale_cooldown_seconds == 0


@pytest.mark.parametrize("value", ["[" * 100_000, '{"m": {"max_replicas": ' + "9" * 5000 + "}}"])
def test_json_that_cannot_be_read_is_refused(value: str) -> None:
    assert refused(POLICY_OVERRIDES=value).startswith("POLICY_OVERRIDES=")


def test_a_target_that_no_number_of_replicas_meets_is_within_the_maximum() -> None:
    for target in ("1e-320", "1e308"):
        rule = settings(SCALE_TARGET_RPS_PER_REPLICA=target).policy().scaling("m")
        assert rule.fewest(1.0) >= 1
