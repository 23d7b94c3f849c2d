"""Environment -> typed, validated settings -> rule values. Every constant an operator may want to change is here."""

import re
from typing import Annotated, Literal, Self

from apscheduler.triggers.cron import CronTrigger
from pydantic import Field, model_validator

from limiter.config import kinds as kind
from limiter.config.base import misspelt, ordered
from limiter.config.broker import BrokerSettings
from limiter.config.database import DatabaseSettings
from limiter.config.platform import PlatformSettings
from limiter.config.policy import PolicySettings
from limiter.config.urls import TracesUrl
from limiter.domain.address import is_address
from limiter.domain.job import Job

NOT_IN_ADDRESS = re.compile(r"""['"<>(),;:{}\\]""")  # such as quotes that were to go, or the name of another field


class Settings(PlatformSettings, BrokerSettings, DatabaseSettings, PolicySettings):
    """Everything the service reads from its environment; `example.env` says what each means."""

    shard: kind.ShareOfModels = "0/1"
    scale_fleet_budget_of_shard: bool = False

    idle_warning_interval_seconds: kind.Seconds = 60
    idle_enforce_interval_seconds: kind.Seconds = 60
    saga_poll_interval_seconds: kind.Seconds = 5
    event_dispatch_interval_seconds: kind.Seconds = 2
    cleanup_interval_seconds: kind.Seconds = 3600
    idle_warning_cron: kind.Cron = ""
    idle_enforce_cron: kind.Cron = ""
    saga_poll_cron: kind.Cron = ""
    event_dispatch_cron: kind.Cron = ""
    cleanup_cron: kind.Cron = ""
    rps_check_max_run_seconds: kind.Seconds = 120
    idle_warning_max_run_seconds: kind.Seconds = 300
    idle_enforce_max_run_seconds: kind.Seconds = 600
    saga_poll_max_run_seconds: kind.Seconds = 120
    event_dispatch_max_run_seconds: kind.Seconds = 300
    cleanup_max_run_seconds: kind.Seconds = 600
    cleanup_batch_rows: kind.Count = 5000
    contact_retention_seconds: kind.Seconds = 31_536_000
    job_attempts: kind.Count = 3
    tick_longest_seconds: kind.Seconds = 5
    lock_heartbeat_seconds: kind.Seconds = 3
    lock_trust_seconds: kind.Seconds = 10
    lock_idle_timeout_seconds: kind.Seconds = 15
    clock_skew_limit_seconds: kind.SecondsOrZero = 10

    user_email_template: str = ""
    event_window: kind.Count = 100
    event_retry_first_seconds: kind.Seconds = 1
    event_retry_longest_seconds: kind.Seconds = 300
    record_readings: str = ""
    record_readings_max_bytes: Annotated[int, Field(ge=1000, le=9_000_000_000)] = 1_000_000_000

    http_host: kind.Name = "0.0.0.0"  # noqa: S104 - a container's own address is not known beforehand
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    liveness_timeout_seconds: kind.AboveBeat = 30
    health_timeout_seconds: kind.Seconds = 0.8
    metrics_per_model: bool = False
    traces_url: TracesUrl = ""
    shutdown_timeout_seconds: kind.Seconds = 20
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"

    @model_validator(mode="after")
    def _lock_rules(self) -> Self:
        ordered("LOCK_HEARTBEAT_SECONDS < LOCK_TRUST_SECONDS", self.lock_heartbeat_seconds, self.lock_trust_seconds)
        ordered(
            "LOCK_TRUST_SECONDS < LOCK_IDLE_TIMEOUT_SECONDS", self.lock_trust_seconds, self.lock_idle_timeout_seconds
        )
        return self

    @model_validator(mode="after")
    def _budget_rules(self) -> Self:
        """A model whose minimum no budget could ever grant would wait for it for good."""
        minimums = {of: scaling.min_replicas for of, scaling, _ in self.named_rules() if not scaling.exempt}
        for of, minimum in minimums.items():
            most = self.scale_fleet_max_replicas or minimum
            ordered(f"SCALE_MIN_REPLICAS <= SCALE_FLEET_MAX_REPLICAS{of}", minimum, most)
        for tag, most in self.scale_fleet_budgets.items():
            ordered(f"SCALE_MIN_REPLICAS <= SCALE_FLEET_BUDGETS of {tag!r}", min(minimums.values()), most)
        return self

    @model_validator(mode="after")
    def _reading_rules(self) -> Self:
        for of, scaling, idle in self.named_rules():
            for which, window in (("UP", scaling.up_window), ("DOWN", scaling.down_window)):
                if not self.rps_check_cron:
                    rule = f"RPS_CHECK_INTERVAL_SECONDS <= SCALE_{which}_WINDOW_SECONDS{of}"
                    ordered(rule, self.rps_check_interval_seconds, window.total_seconds())
            # Booked time from before the bookings were read would never add up to the limit.
            rule = f"IDLE_LIMIT_SECONDS <= BOOKING_LOOKBACK_SECONDS{of}"
            ordered(rule, idle.limit.total_seconds(), self.booking_lookback_seconds)
        return self

    @model_validator(mode="after")
    def _shard_rule(self) -> Self:
        budgets = self.scale_fleet_max_replicas or self.scale_fleet_budgets
        if budgets and kind.shard(self.shard).of > 1 and not self.scale_fleet_budget_of_shard:
            raise ValueError(
                f"SHARD={self.shard}: with SCALE_FLEET_MAX_REPLICAS or SCALE_FLEET_BUDGETS only if they are meant for "
                "this share alone: SCALE_FLEET_BUDGET_OF_SHARD=true"
            )
        return self

    @model_validator(mode="after")
    def _address_rule(self) -> Self:
        template = self.user_email_template
        address = template.replace("{user_name}", "name")
        if template and not (address != template and is_address(address)):
            raise ValueError(f"USER_EMAIL_TEMPLATE={template!r}: must be an address with {{user_name}} in it")
        if found := NOT_IN_ADDRESS.search(address):  # RabbitMQ would take the warnings, and nobody would get them
            raise ValueError(f"USER_EMAIL_TEMPLATE={template!r}: an address has no {found[0]} in it")
        return self

    @property
    def warnings(self) -> dict[str, str]:
        """What is allowed but hardly meant, by the name of its event in the log."""
        found = dict[str, str]()
        if self.dry_run:
            found |= {"dry_run": "DRY_RUN is on: all is decided and recorded; nothing is commanded, cancelled or sent"}
        elif not self.booking_service_token.get_secret_value():
            found |= {"no_booking_token": "BOOKING_SERVICE_TOKEN is empty: BookingService will refuse every cancelling"}
        if names := misspelt(type(self).model_fields):
            meant = ", ".join(f"{name} ({ours}?)" for name, ours in sorted(names.items()))
            found["variable_unknown"] = f"not variables of this service, and without effect: {meant}"
        return found

    def interval(self, job: Job) -> float:
        """Seconds between two runs of the job."""
        return float(getattr(self, f"{job}_interval_seconds"))

    def calendar(self, job: Job) -> CronTrigger | None:
        """When the job runs, in place of its interval."""
        expression = getattr(self, f"{job}_cron")
        return kind.cron(expression, self.timezone) if expression else None

    def longest_run(self, job: Job) -> float:
        """Seconds after which a run of the job is broken off."""
        return float(getattr(self, f"{job}_max_run_seconds"))
