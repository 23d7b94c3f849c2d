"""The settings that the policy is made of: all that a replay of recorded readings needs."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from limiter.config import kinds as kind
from limiter.domain.command import CommandPacing
from limiter.domain.idleness import IdleRule
from limiter.domain.policy import Policy
from limiter.domain.reservations import UnbookingMode
from limiter.domain.scaling import ScalingRule


class Override(BaseModel):
    """What one model may have of its own, in POLICY_OVERRIDES."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_rps_per_replica: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    min_replicas: kind.Count | None = None
    max_replicas: kind.Count | None = None
    idle_limit_seconds: kind.Seconds | None = None
    idle_warning_lead_seconds: kind.Seconds | None = None
    exempt: bool = False


class FromEnvironment(BaseSettings):
    """Where all settings come from."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)


class PolicySettings(FromEnvironment):
    """What decides about scaling, warning and cancelling; `example.env` says what each means."""

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
    policy_overrides: kind.Json[dict[str, Override]] = Field(default_factory=dict)
    dry_run: bool = False
    history_retention_seconds: kind.Seconds = 604_800

    @model_validator(mode="after")
    def _policy_rules(self) -> Self:
        for name, (scaling, idle) in {"": self._rules(Override()), **self._own_rules()}.items():
            of = f" (POLICY_OVERRIDES of {name!r})" if name else ""
            ordered(f"SCALE_MIN_REPLICAS <= SCALE_MAX_REPLICAS{of}", scaling.min_replicas, scaling.max_replicas)
            ordered(f"IDLE_WARNING_LEAD_SECONDS < IDLE_LIMIT_SECONDS{of}", _s(idle.lead), _s(idle.limit))
            ordered(
                f"IDLE_LIMIT_SECONDS < HISTORY_RETENTION_SECONDS{of}", _s(idle.limit), self.history_retention_seconds
            )
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
            pacing=CommandPacing(
                cooldown=timedelta(seconds=self.scale_cooldown_seconds),
                backoff_first=timedelta(seconds=self.command_backoff_first_seconds),
                backoff_longest=timedelta(seconds=self.command_backoff_longest_seconds),
            ),
            enforce_per_run=self.idle_enforce_max_per_run,
            saga_timeout=timedelta(seconds=self.saga_timeout_seconds),
            retention=timedelta(seconds=self.history_retention_seconds),
            dry_run=self.dry_run,
        )


def _s(duration: timedelta) -> float:
    return duration.total_seconds()


def ordered(rule: str, low: float, high: float) -> None:
    """Raise ValueError if two settings break a rule between them, by name and value."""
    if low > high or (low == high and "<=" not in rule):
        raise ValueError(f"{rule}: broken by {low:g} and {high:g}")
