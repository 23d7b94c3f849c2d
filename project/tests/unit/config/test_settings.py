"""What the settings refuse, each with the variable's name and the rule, and what they become."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest

from limiter.config.base import SECRETS
from limiter.config.loading import WrongSettings, load
from limiter.config.overrides import Override
from limiter.config.settings import Settings
from limiter.domain.command import backoff
from limiter.domain.job import Job
from limiter.domain.policy import Policy
from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.reservations import UnbookingMode

REQUIRED = {
    "DATABASE_URL": "postgresql+asyncpg://u:p@h/d",
    "RABBITMQ_URL": "amqp://u:p@h/",
    "MODEL_REGISTRY_URL": "http://registry",
    "MODEL_DISPATCHER_URL": "http://dispatcher",
    "BOOKING_SERVICE_URL": "http://booking",
    "ENTRYPOINT_METRICS_URLS": "http://one/metrics",
}


def settings(**variables: str) -> Settings:
    with patch.dict(os.environ, REQUIRED | variables, clear=True):
        return load()


def refused(**variables: str) -> str:
    with pytest.raises(WrongSettings) as caught:
        settings(**variables)
    return str(caught.value)


@pytest.mark.parametrize(
    "again",
    [
        "http://one/metrics",
        "HTTP://ONE/metrics",
        "http://one:80/metrics",
        "http://one/metrics/",
    ],
)
def test_an_entrypoint_that_would_be_read_twice_is_refused(again: str) -> None:
    text = refused(ENTRYPOINT_METRICS_URLS=f"http://one/metrics,http://two/metrics,{again}")
    assert "ENTRYPOINT_METRICS_URLS" in text
    assert "number 3 is the same page as number 1" in text


@pytest.mark.parametrize(
    "other", ["https://one/metrics", "http://one:8080/metrics", "http://one/other", "http://one/metrics?process=2"]
)
def test_another_page_of_the_same_host_is_another_entrypoint(other: str) -> None:
    assert len(settings(ENTRYPOINT_METRICS_URLS=f"http://one/metrics,{other}").entrypoint_metrics_urls) == 2


def test_bookings_are_read_as_far_back_as_history_reaches() -> None:
    assert settings().booking_lookback_seconds == settings().history_retention_seconds == 604_800


def test_bookings_read_for_less_than_the_idle_limit_stop_the_start() -> None:
    assert settings(BOOKING_LOOKBACK_SECONDS="3600").booking_lookback_seconds == 3600
    text = refused(BOOKING_LOOKBACK_SECONDS="3599")
    assert text == "IDLE_LIMIT_SECONDS <= BOOKING_LOOKBACK_SECONDS: broken by 3600 and 3599"


def test_the_longest_idle_limit_of_any_model_counts() -> None:
    own = '{"Model/1": {"idle_limit_seconds": 7200}}'
    assert settings(BOOKING_LOOKBACK_SECONDS="7200", POLICY_OVERRIDES=own)
    text = refused(BOOKING_LOOKBACK_SECONDS="7199", POLICY_OVERRIDES=own)
    assert "BOOKING_LOOKBACK_SECONDS (POLICY_OVERRIDES of 'Model/1'): broken by 7200 and 7199" in text


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, True),
        ({"BOOKING_SERVICE_TOKEN": ""}, True),
        ({"BOOKING_SERVICE_TOKEN": " "}, True),
        ({"BOOKING_SERVICE_TOKEN": "t"}, False),
        ({"DRY_RUN": "true"}, False),
    ],
)
def test_without_a_token_a_replica_warns_unless_it_runs_dry(variables: dict[str, str], warned: bool) -> None:
    assert ("no_booking_token" in settings(**variables).warnings) is warned


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("IDLE_LIMIT_SECOND", "IDLE_LIMIT_SECONDS"),
        ("idle_limits_seconds", "IDLE_LIMIT_SECONDS"),
        ("RPS_CHECK_INTERVAL", "RPS_CHECK_INTERVAL_SECONDS"),
        ("BOOKING_SERVICE_TOKEN_FIL", "BOOKING_SERVICE_TOKEN_FILE"),
    ],
)
def test_a_variable_that_is_nearly_one_of_ours_is_told_without_its_value(variable: str, meant: str) -> None:
    with patch.dict(os.environ, REQUIRED | {variable: "secret"}, clear=True):
        warning = load().warnings["variable_unknown"]
    assert warning == f"not variables of this service, and without effect: {variable.upper()} ({meant}?)"


@pytest.mark.parametrize(
    "variable",
    ["HTTP_PROXY", "RABBITMQ_PASSWORD", "DATABASE_USER", "MODEL_REGISTRY_PORT", "idle_limit_seconds", "PGPORT", "TZ"],
)
def test_variables_of_others_are_none_that_are_misspelt(variable: str) -> None:
    with patch.dict(os.environ, REQUIRED | {variable: "9999"}, clear=True):
        assert "variable_unknown" not in load().warnings


@pytest.mark.parametrize(
    "template", ["{user_name}", "user@example.org", "{user_name} <{user_name}@b>", "{user_name}@", "{user_name}@b@c"]
)
def test_a_template_that_gives_no_address_is_refused(template: str) -> None:
    assert "USER_EMAIL_TEMPLATE" in refused(USER_EMAIL_TEMPLATE=template)


@pytest.mark.parametrize("job", Job)
def test_every_job_may_have_a_calendar(job: Job) -> None:
    assert settings().calendar(job) is None
    variables = {f"{job}_CRON".upper(): "0 3 * * *", "TIMEZONE": "Europe/Berlin"}
    calendar = settings(**variables).calendar(job)
    assert calendar is not None
    fire = calendar.get_next_fire_time(None, datetime(2026, 7, 1, tzinfo=UTC))
    assert fire == datetime(2026, 7, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("calendar", "window"), [("", 25), ("* * * * *", 30)])
def test_by_a_calendar_an_interval_that_is_left_over_does_not_say_which_tick_is_short(
    calendar: str, window: float
) -> None:
    found = settings(RPS_CHECK_INTERVAL_SECONDS="50", RPS_CHECK_CRON=calendar).policy().scaling_rule
    assert found.burst_window == timedelta(seconds=window)


@pytest.mark.parametrize(
    "expression", ["* * * *", "* * * * * *", "60 * * * *", "a * * * *", "0 0 30 2 *", "@daily", "0 0 * * 7"]
)
def test_a_calendar_that_is_none_or_never_comes_is_refused(expression: str) -> None:
    text = refused(IDLE_WARNING_CRON=expression)
    assert f"IDLE_WARNING_CRON='{expression}': must be five fields" in text


@pytest.mark.parametrize("name", ["Berlin", "Europe", "../UTC", "/etc/localtime", "UTC+1"])
def test_a_time_zone_that_is_none_is_refused(name: str) -> None:
    assert f"TIMEZONE='{name}'" in refused(TIMEZONE=name)


def test_quiet_hours_are_those_of_the_time_zone_and_hold_for_every_model() -> None:
    policy = settings(
        IDLE_QUIET_HOURS="22:00-08:00", TIMEZONE="Europe/Berlin", POLICY_OVERRIDES='{"Model/1": {"max_replicas": 2}}'
    ).policy()
    assert policy.idle("any").quiet == QuietHours(time(22), time(8), ZoneInfo("Europe/Berlin"))
    assert policy.idle("Model/1").quiet == policy.idle("any").quiet
    assert settings().policy().idle("any").quiet == NEVER_QUIET


@pytest.mark.parametrize(
    "text", ["22:00", "22-8", "24:00-08:00", "22:60-08:00", "22:00-08:00:00", "22:00 - 08:00", "08:00-08:00"]
)
def test_quiet_hours_that_are_none_or_all_day_are_refused(text: str) -> None:
    assert f"IDLE_QUIET_HOURS='{text}': must" in refused(IDLE_QUIET_HOURS=text)


@pytest.mark.parametrize(
    ("variable", "value", "good"),
    [
        ("IDLE_SURGE_SHARE", "0", False),
        ("IDLE_SURGE_SHARE", "0.01", True),
        ("IDLE_SURGE_SHARE", "1", True),
        ("IDLE_SURGE_SHARE", "1.01", False),
        ("IDLE_SURGE_MIN", "0", True),
        ("IDLE_SURGE_MIN", "-1", False),
        ("UNINSTALL_TELL_SECONDS", "0", True),
        ("KEEP_LONGEST_SECONDS", "0", False),
        ("CLEANUP_BATCH_ROWS", "0", False),
    ],
)
def test_the_borders_of_the_new_numbers(variable: str, value: str, good: bool) -> None:
    if good:
        assert settings(**{variable: value})
    else:
        assert f"{variable}='{value}'" in refused(**{variable: value})


def test_the_policy_carries_the_surge() -> None:
    policy = settings(IDLE_SURGE_MIN="3", IDLE_SURGE_SHARE="0.25", IDLE_SURGE_WINDOW_SECONDS="60").policy()
    assert (policy.surge_min, policy.surge_share, policy.surge_window) == (3, 0.25, timedelta(seconds=60))


OWN: dict[str, tuple[Any, Callable[[Policy], Any]]] = {
    "target_rps_per_replica": (99, lambda policy: policy.scaling("own").target_rps),
    "tolerance": (0, lambda policy: policy.scaling("own").tolerance),
    "down_headroom": (0.5, lambda policy: policy.scaling("own").headroom),
    "up_window_seconds": (61, lambda policy: policy.scaling("own").up_window.total_seconds()),
    "down_window_seconds": (62, lambda policy: policy.scaling("own").down_window.total_seconds()),
    "up_stabilization_seconds": (0, lambda policy: policy.scaling("own").up_stabilization.total_seconds()),
    "down_stabilization_seconds": (0, lambda policy: policy.scaling("own").down_stabilization.total_seconds()),
    "burst_factor": (0, lambda policy: policy.scaling("own").burst_factor),
    "lead": (False, lambda policy: policy.scaling("own").lead_most > 1),
    "lead_default_seconds": (0, lambda policy: policy.scaling("own").lead_default.total_seconds()),
    "lead_most": (2, lambda policy: policy.scaling("own").lead_most),
    "down_step": (1, lambda policy: policy.scaling("own").down_step),
    "cooldown_seconds": (0, lambda policy: policy.pacing_of("own").cooldown.total_seconds()),
    "min_replicas": (2, lambda policy: policy.scaling("own").min_replicas),
    "max_replicas": (3, lambda policy: policy.scaling("own").max_replicas),
    "idle_limit_seconds": (7200, lambda policy: policy.idle("own").limit.total_seconds()),
    "idle_warning_lead_seconds": (60, lambda policy: policy.idle("own").lead.total_seconds()),
    "unbooking_mode": ("ALL", lambda policy: policy.idle("own").mode),
    "unbooking_row_gap_seconds": (0, lambda policy: policy.row_gap("own").total_seconds()),
    "unbook_current_slot": (False, lambda policy: policy.idle("own").cancel_current),
    "uninstall_on_idle": (False, lambda policy: policy.idle("own").uninstall),
    "uninstall_guard_seconds": (0, lambda policy: policy.idle("own").uninstall_guard.total_seconds()),
    "uninstall_tell_seconds": (0, lambda policy: policy.idle("own").uninstall_tell.total_seconds()),
    "exempt": (True, lambda policy: policy.idle("own").exempt and policy.scaling("own").exempt),
}


@pytest.mark.parametrize("prefix", ["", "scale_"])
@pytest.mark.parametrize("rule", OWN)
def test_a_model_may_have_every_rule_of_its_own(rule: str, prefix: str) -> None:
    """Zero and false, too, where the fleet has something else."""
    value, of = OWN[rule]
    fleet = {"UNBOOK_CURRENT_SLOT": "true", "UNINSTALL_ON_IDLE": "true"}
    text = str({f"{prefix}{rule}": value}).replace("'", '"').replace("True", "true").replace("False", "false")
    policy = settings(POLICY_OVERRIDES=f'{{"own": {text}}}', **fleet).policy()
    assert of(policy) == value
    plain = settings(**fleet).policy()
    assert of(plain) != value
    assert policy.scaling("other") == plain.scaling("other")
    assert policy.idle("other") == plain.idle("other")
    assert policy.pacing_of("other") == plain.pacing_of("other")


def test_every_rule_of_a_model_is_tested() -> None:
    assert set(Override.model_fields) == set(OWN)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ('{"unbooking_mode": "SOME"}', "unbooking_mode"),
        ('{"down_headroom": 1}', "down_headroom"),
        ('{"idle_limit": 1}', "idle_limit"),
        ('{"max_replicas": 1, "scale_max_replicas": 2}', "twice"),
        (
            '{"up_window_seconds": 10}',
            "RPS_CHECK_INTERVAL_SECONDS <= SCALE_UP_WINDOW_SECONDS (POLICY_OVERRIDES of 'own')",
        ),
        (
            '{"idle_limit_seconds": 604800}',
            "IDLE_LIMIT_SECONDS < HISTORY_RETENTION_SECONDS (POLICY_OVERRIDES of 'own')",
        ),
        ("7", "own"),
    ],
)
def test_a_wrong_rule_of_a_model_stops_the_start(own: str, why: str) -> None:
    assert why in refused(POLICY_OVERRIDES=f'{{"own": {own}}}')


def test_the_budgets_by_tag_stand_beside_that_of_all() -> None:
    assert settings().policy().budget.limits == {}
    both = settings(SCALE_FLEET_MAX_REPLICAS="9", SCALE_FLEET_BUDGETS='{"a100": 4, "l4": 6}')
    assert both.policy().budget.limits == {"": 9, "a100": 4, "l4": 6}
    assert settings(SCALE_FLEET_BUDGETS='{"a100": 4}').policy().budget.limits == {"a100": 4}


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("SCALE_FLEET_BUDGETS", '{"a100": 0}', "greater than or equal to 1"),
        ("SCALE_FLEET_BUDGETS", '{"": 4}', "at least 1 character"),
        ("SCALE_FLEET_BUDGETS", '{"a100": 1.5}', "integer"),
        ("SCALE_FLEET_BUDGETS", "[4]", "dictionary"),
        ("SCALE_FLEET_MAX_REPLICAS", "-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_budget_stops_the_start(variable: str, value: str, rule: str) -> None:
    text = refused(**{variable: value})
    assert variable in text
    assert rule in text


def test_a_liveness_timeout_that_no_scheduler_can_keep_stops_the_start() -> None:
    text = refused(LIVENESS_TIMEOUT_SECONDS="1")
    assert text == "LIVENESS_TIMEOUT_SECONDS='1': Input should be greater than 1"
    assert settings(LIVENESS_TIMEOUT_SECONDS="1.5").liveness_timeout_seconds == 1.5


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    values = REQUIRED | {"MIGRATIONS_DATABASE_URL": REQUIRED["DATABASE_URL"], "BOOKING_SERVICE_TOKEN": "s3cret"}
    file = tmp_path / "secret"
    file.write_text(values[name] + "\n")
    found = settings(**values | {name: "", f"{name}_FILE": str(file)})
    assert getattr(found, name.lower()).get_secret_value() == values[name]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_two_places_or_in_none_is_refused_without_showing_it(tmp_path: Path, name: str) -> None:
    missing = tmp_path / "missing"
    assert f"{name}_FILE={str(missing)!r}: No such file or directory" in refused(
        **{name: "", f"{name}_FILE": str(missing)}
    )
    file = tmp_path / "secret"
    file.write_bytes(b"s3cret")
    text = refused(**{name: "s3cret", f"{name}_FILE": str(file)})
    assert f"{name} and {name}_FILE are both set: only one of them may be" in text
    assert "s3cret" not in text
    file.write_bytes(b"s3cret\xff")
    text = refused(**{name: "", f"{name}_FILE": str(file)})
    assert f"{name}_FILE={str(file)!r}: not UTF-8 text" in text
    assert "s3cret" not in text


def test_what_is_wrong_with_a_secret_in_a_file_is_told_without_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("mysql://user:s3cret@host/d")
    text = refused(DATABASE_URL="", DATABASE_URL_FILE=str(file))
    assert "DATABASE_URL=(hidden): must start with postgresql+asyncpg://" in text
    assert "s3cret" not in text


def test_the_word_for_tls_of_another_library_is_refused_with_the_right_one() -> None:
    text = refused(DATABASE_URL="postgresql+asyncpg://u:s3cret@h/d?sslmode=require")
    assert "DATABASE_URL=(hidden): sslmode is libpq's word: asyncpg takes ?ssl=require" in text
    assert "s3cret" not in text
    assert settings(DATABASE_URL="postgresql+asyncpg://u:p@h/d?ssl=require")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("HTTP_CA_FILE", "must be a file of certificates in PEM"),
        ("HTTP_CERTIFICATE_FILE", "must be a file with a certificate and its key in PEM"),
    ],
)
def test_a_file_of_certificates_must_be_one(tmp_path: Path, name: str, rule: str) -> None:
    file = tmp_path / "ca.pem"
    assert f"{name}=" in refused(**{name: str(file)})
    file.write_text("no certificate")
    assert f"{name}={str(file)!r}: {rule}" in refused(**{name: str(file)})


def test_traces_without_their_packages_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "TRACES_URL='ftp://c': must be an http:// or https:// URL" in refused(TRACES_URL="ftp://c")
    monkeypatch.setattr("limiter.config.urls.find_spec", lambda _: None)
    assert "tracing needs the packages of requirements-tracing.txt" in refused(TRACES_URL="http://c:4318/v1/traces")
    assert settings(TRACES_URL="")


@pytest.mark.parametrize("value", ["0/0", "2/2", "-1/2", "1", "a/2", "1/2/3", "\N{ARABIC-INDIC DIGIT ONE}/2"])
def test_a_wrong_share_stops_the_start(value: str) -> None:
    assert "must be k/n" in refused(SHARD=value)


@pytest.mark.parametrize("budget", [{"SCALE_FLEET_MAX_REPLICAS": "9"}, {"SCALE_FLEET_BUDGETS": '{"a100": 4}'}])
def test_a_budget_beside_a_share_must_be_meant_for_it(budget: dict[str, str]) -> None:
    assert "SCALE_FLEET_BUDGET_OF_SHARD=true" in refused(SHARD="0/2", **budget)
    assert settings(SHARD="0/2", SCALE_FLEET_BUDGET_OF_SHARD="true", **budget)
    assert settings(SHARD="0/1", **budget)


def test_of_all_unbooking_modes_a_model_may_have_any() -> None:
    for mode in UnbookingMode:
        assert settings(POLICY_OVERRIDES=f'{{"own": {{"unbooking_mode": "{mode}"}}}}').policy().idle("own").mode is mode


@pytest.mark.parametrize("url", ["http://h:abc", "http://h:0/x", "http://h:99999", "http://"])
def test_a_url_without_host_or_with_a_port_that_is_none_is_refused(url: str) -> None:
    assert f"MODEL_REGISTRY_URL='{url}': " in refused(MODEL_REGISTRY_URL=url)
    assert "ENTRYPOINT_METRICS_URLS" in refused(ENTRYPOINT_METRICS_URLS=url)


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    for name in ("MODEL_REGISTRY_URL", "ENTRYPOINT_METRICS_URLS"):
        text = refused(**{name: "http://scraper:s3cret@e/metrics"})
        assert name in text
        assert "=(hidden): must have no user and no password in it" in text
        assert "s3cret" not in text


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql+asyncpg://user:password@host:port/database"),
        ("RABBITMQ_URL", "amqp://user:password@host:port/vhost"),
        ("RABBITMQ_URL", "amqp://user:sec/ret@host:5672/"),
        ("RABBITMQ_URL", "amqp://user:sec#ret@host:5672/"),
    ],
)
def test_a_port_that_is_none_stops_the_start_and_shows_no_part_of_a_password(name: str, url: str) -> None:
    text = refused(**{name: url})
    assert f"{name}=(hidden): its port must be a number" in text
    assert "sec" not in text


def test_a_first_pause_above_the_longest_is_cut_to_it() -> None:
    """So whoever wants short pauses need only set the longest."""
    found = settings(COMMAND_BACKOFF_LONGEST_SECONDS="30", EVENT_RETRY_LONGEST_SECONDS="0.5")
    pacing = found.pacing(Override())
    assert backoff(1, pacing.backoff_first, pacing.backoff_longest) == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        (
            {"SCALE_MIN_REPLICAS": "3", "SCALE_FLEET_MAX_REPLICAS": "2"},
            "SCALE_MIN_REPLICAS <= SCALE_FLEET_MAX_REPLICAS: broken by 3 and 2",
        ),
        (
            {"POLICY_OVERRIDES": '{"own": {"min_replicas": 4}}', "SCALE_FLEET_MAX_REPLICAS": "3"},
            "SCALE_MIN_REPLICAS <= SCALE_FLEET_MAX_REPLICAS (POLICY_OVERRIDES of 'own'): broken by 4 and 3",
        ),
        (
            {"SCALE_MIN_REPLICAS": "3", "SCALE_FLEET_BUDGETS": '{"l4": 3, "a100": 2}'},
            "SCALE_MIN_REPLICAS <= SCALE_FLEET_BUDGETS of 'a100': broken by 3 and 2",
        ),
    ],
)
def test_a_budget_below_the_minimum_of_a_model_stops_the_start(variables: dict[str, str], text: str) -> None:
    assert refused(**variables) == text


def test_a_budget_may_leave_no_more_than_a_minimum() -> None:
    assert settings(SCALE_MIN_REPLICAS="3", SCALE_FLEET_MAX_REPLICAS="3", SCALE_FLEET_BUDGETS='{"a100": 3}')
    # Which models have the tag is not known here: one with a smaller minimum of its own may be all of them.
    small = '{"own": {"min_replicas": 2}}'
    assert settings(SCALE_MIN_REPLICAS="3", SCALE_FLEET_BUDGETS='{"a100": 2}', POLICY_OVERRIDES=small)
    exempt = '{"own": {"min_replicas": 4, "exempt": true}}'
    assert settings(SCALE_FLEET_MAX_REPLICAS="3", POLICY_OVERRIDES=exempt)


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("SCALE_FLEET_BUDGETS", '{"a100": 4, "l4": 1, "a100": 2}', "a100"),
        ("POLICY_OVERRIDES", '{"own": {"exempt": true}, "own": {"max_replicas": 2}}', "own"),
        ("POLICY_OVERRIDES", '{"own": {"max_replicas": 3, "max_replicas": 2}}', "max_replicas"),
        ("ENTRYPOINT_MATCH_LABELS", '{"service_name": "a", "service_name": "b"}', "service_name"),
    ],
)
def test_a_name_that_stands_twice_in_an_object_stops_the_start(variable: str, value: str, name: str) -> None:
    text = refused(**{variable: value})
    assert text.startswith(f"{variable}=")
    assert text.endswith(f": must be a JSON object: {name!r} stands there twice")
