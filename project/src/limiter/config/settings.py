"""Environment -> typed, validated settings -> rule values. Every constant an operator may want to change is here."""

from typing import Annotated, Any, Literal, Self, TypeVar

from apscheduler.triggers.cron import CronTrigger
from pydantic import Field, SecretStr, ValidationError, model_validator

from limiter.config import kinds as kind
from limiter.config.base import SECRETS, FromEnvironment, ordered
from limiter.config.policy import PolicySettings
from limiter.domain.address import is_address
from limiter.domain.job import Job

Loaded = TypeVar("Loaded", bound=FromEnvironment)


class WrongSettings(Exception):
    """The environment is wrong; the text names each variable, its value and the rule it breaks."""


class MigrationSettings(FromEnvironment):
    """The little that migrations need."""

    database_url: kind.DatabaseUrl
    migrations_database_url: kind.DatabaseUrl | None = None
    database_schema: kind.Schema = "rps_limiter"

    @property
    def url(self) -> str:
        return (self.migrations_database_url or self.database_url).get_secret_value()


class Settings(MigrationSettings, PolicySettings):
    """Everything the service reads from its environment; `example.env` says what each means."""

    database_pool_size: kind.Count = 5
    database_timeout_seconds: kind.Seconds = 10

    rabbitmq_url: kind.AmqpUrl
    rabbitmq_timeout_seconds: kind.Seconds = 5
    rabbitmq_reconnect_seconds: kind.Seconds = 1
    notifier_exchange: kind.Name = "notifications"
    notifier_deployed_routing_key: kind.Name = "models.deployed.successfully"
    notifier_no_use_routing_key: kind.Name = "reservation.no_use"
    deployed_queue: kind.Name = "rps_limiter.models_deployed"
    deployed_reminder_enabled: bool = False
    deployed_reminder_grace_seconds: kind.SecondsOrZero = 60
    control_queue: kind.Name = "rps_limiter.control"
    control_wait_seconds: kind.Seconds = 2
    control_explain_changes: kind.Count = 50

    shard: kind.ShareOfModels = "0/1"
    scale_fleet_budget_of_shard: bool = False
    model_registry_url: kind.Url
    model_dispatcher_url: kind.Url
    booking_service_url: kind.Url
    booking_service_token: kind.Token = SecretStr("")
    entrypoint_metrics_urls: kind.Urls
    entrypoint_calls_metric: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")] = "model_calls_total"
    entrypoint_model_label: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")] = "model_name"
    entrypoint_match_labels: kind.Json[dict[str, str]] = Field(default_factory=dict)
    entrypoint_inflight_metric: Annotated[str, Field(pattern=r"^([a-zA-Z_:][a-zA-Z0-9_:]*)?$")] = ""
    registry_page_size: Annotated[int, Field(ge=1, le=100)] = 100
    booking_page_size: Annotated[int, Field(ge=1, le=1000)] = 1000
    booking_lookback_seconds: kind.SecondsOrZero = 604_800
    http_timeout_seconds: kind.Seconds = 5
    http_ca_file: kind.CaFile = ""
    http_certificate_file: kind.CertificateFile = ""
    http_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    http_retry_first_seconds: kind.Seconds = 0.2
    http_concurrency: kind.Count = 10
    http_circuit_failures: kind.Count = 20
    http_circuit_rest_seconds: kind.Seconds = 10

    rps_check_interval_seconds: kind.Seconds = 15
    idle_warning_interval_seconds: kind.Seconds = 60
    idle_enforce_interval_seconds: kind.Seconds = 60
    saga_poll_interval_seconds: kind.Seconds = 5
    event_dispatch_interval_seconds: kind.Seconds = 2
    cleanup_interval_seconds: kind.Seconds = 3600
    rps_check_cron: kind.Cron = ""
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
    liveness_timeout_seconds: kind.Seconds = 30
    health_timeout_seconds: kind.Seconds = 0.8
    metrics_per_model: bool = False
    traces_url: kind.TracesUrl = ""
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
    def _reading_rules(self) -> Self:
        for of, scaling, idle in self.named_rules():
            window = min(scaling.up_window, scaling.down_window).total_seconds()
            if not self.rps_check_cron:
                rule = f"RPS_CHECK_INTERVAL_SECONDS <= SCALE_*_WINDOW_SECONDS{of}"
                ordered(rule, self.rps_check_interval_seconds, window)
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
        if template and not ("{user_name}" in template and is_address(template.replace("{user_name}", "name"))):
            raise ValueError(f"USER_EMAIL_TEMPLATE={template!r}: must be an address with {{user_name}} in it")
        return self

    @property
    def warnings(self) -> dict[str, str]:
        """What is allowed but hardly meant, by the name of its event in the log."""
        if self.dry_run:
            return {"dry_run": "DRY_RUN is on: all is decided and recorded; nothing is commanded, cancelled or sent"}
        if self.booking_service_token.get_secret_value():
            return {}
        return {"no_booking_token": "BOOKING_SERVICE_TOKEN is empty: BookingService will refuse every cancelling"}

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


def load() -> Settings:
    """The settings from the environment; raises WrongSettings."""
    return load_as(Settings)


def load_as(kind: type[Loaded], **given: Any) -> Loaded:
    """Settings of one kind from the environment, or `given` by their field names; raises WrongSettings."""
    try:
        return kind(**given)
    except ValidationError as error:
        raise WrongSettings("\n".join(_problem_line(dict(problem)) for problem in error.errors())) from None


def _problem_line(problem: dict[str, Any]) -> str:
    """One line for one problem: the variable, its value (secrets hidden), the rule."""
    name = str(problem["loc"][0]).upper() if problem["loc"] else ""
    rule = str(problem["msg"]).removeprefix("Value error, ")
    if not name or problem["type"] == "missing":
        return f"{name} is not set: it is required" if name else rule
    inner = ".".join(str(part) for part in problem["loc"][1:])
    value = "(hidden)" if name in SECRETS else repr(problem.get("input"))
    return f"{name}{f' [{inner}]' if inner else ''}={value}: {rule}"
