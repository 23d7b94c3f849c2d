"""Environment -> typed, validated settings -> rule values. Every constant an operator may want to change is here."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from limiter import setting_types as kind
from limiter.domain.action import Job, Pauses
from limiter.domain.idleness import IdleRule
from limiter.domain.policy import Policy
from limiter.domain.reservations import UnbookingMode
from limiter.domain.scaling import ScalingRule

SECRETS = {"DATABASE_URL", "MIGRATIONS_DATABASE_URL", "RABBITMQ_URL", "BOOKING_SERVICE_TOKEN"}


class WrongSettings(Exception):
    """The environment is wrong; the text names each variable, its value and the rule it breaks."""


class Override(BaseModel):
    """What one model may have of its own, in POLICY_OVERRIDES."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_rps_per_replica: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    min_replicas: kind.Count | None = None
    max_replicas: kind.Count | None = None
    idle_limit_seconds: kind.Seconds | None = None
    idle_warning_lead_seconds: kind.Seconds | None = None
    exempt: bool = False


class _FromEnvironment(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)


class MigrationSettings(_FromEnvironment):
    """The little that migrations need."""

    database_url: kind.DatabaseUrl
    migrations_database_url: kind.DatabaseUrl | None = None
    database_schema: kind.Schema = "rps_limiter"

    @property
    def url(self) -> str:
        return (self.migrations_database_url or self.database_url).get_secret_value()


class Settings(MigrationSettings):
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

    model_registry_url: kind.Url
    model_dispatcher_url: kind.Url
    booking_service_url: kind.Url
    booking_service_token: kind.Token = SecretStr("")
    entrypoint_metrics_urls: kind.Urls
    entrypoint_calls_metric: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")] = "model_calls_total"
    entrypoint_model_label: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")] = "model_name"
    entrypoint_match_labels: kind.Json[dict[str, str]] = Field(default_factory=dict)
    registry_page_size: Annotated[int, Field(ge=1, le=100)] = 100
    booking_page_size: Annotated[int, Field(ge=1, le=1000)] = 1000
    booking_lookback_seconds: kind.SecondsOrZero = 86_400
    http_timeout_seconds: kind.Seconds = 5
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
    rps_check_max_run_seconds: kind.Seconds = 120
    idle_warning_max_run_seconds: kind.Seconds = 300
    idle_enforce_max_run_seconds: kind.Seconds = 600
    saga_poll_max_run_seconds: kind.Seconds = 120
    event_dispatch_max_run_seconds: kind.Seconds = 300
    job_attempts: kind.Count = 3
    tick_longest_seconds: kind.Seconds = 5
    lock_heartbeat_seconds: kind.Seconds = 3
    lock_trust_seconds: kind.Seconds = 10
    lock_idle_timeout_seconds: kind.Seconds = 15
    clock_skew_limit_seconds: kind.SecondsOrZero = 10

    scale_target_rps_per_replica: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    scale_tolerance: Annotated[float, Field(ge=0, le=10)] = 0.1
    scale_down_headroom: Annotated[float, Field(gt=0, lt=1)] = 0.7
    scale_up_window_seconds: kind.Seconds = 60
    scale_down_window_seconds: kind.Seconds = 300
    scale_up_stabilization_seconds: kind.SecondsOrZero = 30
    scale_down_stabilization_seconds: kind.SecondsOrZero = 300
    scale_cooldown_seconds: kind.SecondsOrZero = 60
    scale_min_replicas: kind.Count = 1
    scale_max_replicas: kind.Count = 8
    command_backoff_first_seconds: kind.Seconds = 60
    command_backoff_longest_seconds: kind.Seconds = 1800
    saga_timeout_seconds: kind.Seconds = 900

    idle_limit_seconds: kind.Seconds = 3600
    idle_warning_lead_seconds: kind.Seconds = 900
    unbooking_mode: UnbookingMode = UnbookingMode.IN_ROW
    unbooking_row_gap_seconds: kind.SecondsOrZero = 300
    unbook_current_slot: bool = False
    uninstall_on_idle: bool = False
    uninstall_guard_seconds: kind.SecondsOrZero = 1800
    idle_enforce_max_per_run: kind.Count = 10
    user_email_template: str = ""
    policy_overrides: kind.Json[dict[str, Override]] = Field(default_factory=dict)
    dry_run: bool = False

    event_window: kind.Count = 100
    event_retry_first_seconds: kind.Seconds = 1
    event_retry_longest_seconds: kind.Seconds = 300
    history_retention_seconds: kind.Seconds = 604_800

    http_host: kind.Name = "0.0.0.0"  # noqa: S104 - a container's own address is not known beforehand
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    liveness_timeout_seconds: kind.Seconds = 30
    shutdown_timeout_seconds: kind.Seconds = 20
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"

    @model_validator(mode="after")
    def _rules_across_fields(self) -> Self:
        for name, (scaling, idle) in {"": self._rules(Override()), **self._own_rules()}.items():
            of = f" (POLICY_OVERRIDES of {name!r})" if name else ""
            _ordered(f"SCALE_MIN_REPLICAS <= SCALE_MAX_REPLICAS{of}", scaling.min_replicas, scaling.max_replicas)
            _ordered(f"IDLE_WARNING_LEAD_SECONDS < IDLE_LIMIT_SECONDS{of}", _s(idle.lead), _s(idle.limit))
            _ordered(
                f"IDLE_LIMIT_SECONDS < HISTORY_RETENTION_SECONDS{of}", _s(idle.limit), self.history_retention_seconds
            )
        _ordered("LOCK_HEARTBEAT_SECONDS < LOCK_TRUST_SECONDS", self.lock_heartbeat_seconds, self.lock_trust_seconds)
        _ordered(
            "LOCK_TRUST_SECONDS < LOCK_IDLE_TIMEOUT_SECONDS", self.lock_trust_seconds, self.lock_idle_timeout_seconds
        )
        window = min(self.scale_up_window_seconds, self.scale_down_window_seconds)
        _ordered("RPS_CHECK_INTERVAL_SECONDS <= SCALE_*_WINDOW_SECONDS", self.rps_check_interval_seconds, window)
        template = self.user_email_template
        if template and ("{user_name}" not in template or "@" not in template):
            raise ValueError(f"USER_EMAIL_TEMPLATE={template!r}: must contain {{user_name}} and @")
        return self

    def _rules(self, own: Override) -> tuple[ScalingRule, IdleRule]:
        scaling = ScalingRule(
            target_rps=own.target_rps_per_replica or self.scale_target_rps_per_replica,
            tolerance=self.scale_tolerance,
            headroom=self.scale_down_headroom,
            min_replicas=own.min_replicas or self.scale_min_replicas,
            max_replicas=own.max_replicas or self.scale_max_replicas,
            up_window=timedelta(seconds=self.scale_up_window_seconds),
            down_window=timedelta(seconds=self.scale_down_window_seconds),
            up_stabilization=timedelta(seconds=self.scale_up_stabilization_seconds),
            down_stabilization=timedelta(seconds=self.scale_down_stabilization_seconds),
        )
        idle = IdleRule(
            limit=timedelta(seconds=own.idle_limit_seconds or self.idle_limit_seconds),
            lead=timedelta(seconds=own.idle_warning_lead_seconds or self.idle_warning_lead_seconds),
            mode=self.unbooking_mode,
            row_gap=timedelta(seconds=self.unbooking_row_gap_seconds),
            cancel_current=self.unbook_current_slot,
            uninstall=self.uninstall_on_idle,
            uninstall_guard=timedelta(seconds=self.uninstall_guard_seconds),
        )
        return replace(scaling, exempt=own.exempt), replace(idle, exempt=own.exempt)

    def _own_rules(self) -> dict[str, tuple[ScalingRule, IdleRule]]:
        return {name: self._rules(own) for name, own in self.policy_overrides.items()}

    def policy(self) -> Policy:
        scaling, idle = self._rules(Override())
        return Policy(
            scaling_rule=scaling,
            idle_rule=idle,
            own_rules=self._own_rules(),
            pauses=Pauses(
                cooldown=timedelta(seconds=self.scale_cooldown_seconds),
                backoff_first=timedelta(seconds=self.command_backoff_first_seconds),
                backoff_longest=timedelta(seconds=self.command_backoff_longest_seconds),
            ),
            enforce_per_run=self.idle_enforce_max_per_run,
            saga_timeout=timedelta(seconds=self.saga_timeout_seconds),
            retention=timedelta(seconds=self.history_retention_seconds),
            dry_run=self.dry_run,
        )

    def interval(self, job: Job) -> float:
        """Seconds between two runs of the job."""
        return float(getattr(self, f"{job}_interval_seconds"))

    def max_run(self, job: Job) -> float:
        """Seconds after which a run of the job is broken off."""
        return float(getattr(self, f"{job}_max_run_seconds"))


def _s(duration: timedelta) -> float:
    return duration.total_seconds()


def _ordered(rule: str, low: float, high: float) -> None:
    if low > high or (low == high and "<=" not in rule):
        raise ValueError(f"{rule}: broken by {low:g} and {high:g}")


def load() -> Settings:
    """The settings from the environment; raises WrongSettings."""
    try:
        return Settings()
    except ValidationError as error:
        raise WrongSettings("\n".join(_explain(dict(problem)) for problem in error.errors())) from None


def _explain(problem: dict[str, Any]) -> str:
    """One line for one problem: the variable, its value (secrets hidden), the rule."""
    name = str(problem["loc"][0]).upper() if problem["loc"] else ""
    rule = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{name} is not set: it is required"
    if not name:
        return rule
    inner = ".".join(str(part) for part in problem["loc"][1:])
    value = "(hidden)" if name in SECRETS else repr(problem.get("input"))
    return f"{name}{f' [{inner}]' if inner else ''}={value}: {rule}"
