"""The settings that the policy is made of: all that a replay of recorded readings needs."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment, given, ordered
from limiter.config.overrides import Override
from limiter.domain.budget import FleetBudget
from limiter.domain.command import CommandPacing
from limiter.domain.idle_rule import IdleRule
from limiter.domain.policy import Policy
from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.reservations import UnbookingMode
from limiter.domain.scaling_rule import ScalingRule

Value = TypeVar("Value")


class PolicySettings(FromEnvironment):
    """What decides about scaling, warning and cancelling; `example.env` says what each means."""

    scale_target_rps_per_replica: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    scale_tolerance: Annotated[float, Field(ge=0, le=10)] = 0.1
    scale_down_headroom: Annotated[float, Field(gt=0, lt=1)] = 0.7
    scale_up_window_seconds: kind.Seconds = 60
    scale_down_window_seconds: kind.Seconds = 300
    scale_up_stabilization_seconds: kind.SecondsOrZero = 30
    scale_down_stabilization_seconds: kind.SecondsOrZero = 300
    scale_burst_factor: kind.Factor = 2
    scale_lead: bool = True
    scale_lead_default_seconds: kind.SecondsOrZero = 60
    scale_lead_most: Annotated[float, Field(ge=1, le=10)] = 1.5
    scale_down_step: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    scale_cooldown_seconds: kind.SecondsOrZero = 60
    scale_commands_per_run: kind.Count = 50
    scale_fleet_max_replicas: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    scale_fleet_budgets: kind.Json[dict[Annotated[str, Field(min_length=1)], kind.Count]] = Field(default_factory=dict)
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
    uninstall_tell_seconds: kind.SecondsOrZero = 120
    keep_longest_seconds: kind.Seconds = 604_800
    idle_surge_min: Annotated[int, Field(ge=0, le=100_000)] = 20
    idle_surge_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    idle_surge_window_seconds: kind.Seconds = 1800
    timezone: kind.TimeZone = "UTC"
    idle_quiet_hours: kind.Hours = ""
    idle_enforce_max_per_run: kind.Count = 10
    policy_overrides: kind.Json[dict[str, Override]] = Field(default_factory=dict)
    dry_run: bool = False
    history_retention_seconds: kind.Seconds = 604_800

    @model_validator(mode="after")
    def _policy_rules(self) -> Self:
        for of, scaling, idle in self.named_rules():
            ordered(f"SCALE_MIN_REPLICAS <= SCALE_MAX_REPLICAS{of}", scaling.min_replicas, scaling.max_replicas)
            ordered(f"IDLE_WARNING_LEAD_SECONDS < IDLE_LIMIT_SECONDS{of}", _s(idle.lead), _s(idle.limit))
            ordered(
                f"IDLE_LIMIT_SECONDS < HISTORY_RETENTION_SECONDS{of}", _s(idle.limit), self.history_retention_seconds
            )
        return self

    def named_rules(self) -> Iterator[tuple[str, ScalingRule, IdleRule]]:
        """All rules, each with what says in a message whose they are."""
        for name, rules in {"": self._rules(Override()), **self._own_rules()}.items():
            yield (f" (POLICY_OVERRIDES of {name!r})" if name else "", *rules)

    def _rules(self, own: Override) -> tuple[ScalingRule, IdleRule]:
        return self._scaling_rule(own), self._idle_rule(own)

    def _scaling_rule(self, own: Override) -> ScalingRule:
        return ScalingRule(
            target_rps=given(own.target_rps_per_replica, self.scale_target_rps_per_replica),
            tolerance=given(own.tolerance, self.scale_tolerance),
            headroom=given(own.down_headroom, self.scale_down_headroom),
            min_replicas=given(own.min_replicas, self.scale_min_replicas),
            max_replicas=given(own.max_replicas, self.scale_max_replicas),
            up_window=_d(given(own.up_window_seconds, self.scale_up_window_seconds)),
            down_window=_d(given(own.down_window_seconds, self.scale_down_window_seconds)),
            up_stabilization=_d(given(own.up_stabilization_seconds, self.scale_up_stabilization_seconds)),
            down_stabilization=_d(given(own.down_stabilization_seconds, self.scale_down_stabilization_seconds)),
            exempt=own.exempt,
            burst_factor=given(own.burst_factor, self.scale_burst_factor),
            lead_most=self._lead_most(own),
            lead_default=_d(given(own.lead_default_seconds, self.scale_lead_default_seconds)),
            down_step=given(own.down_step, self.scale_down_step),
        )

    def _lead_most(self, own: Override) -> float:
        return given(own.lead_most, self.scale_lead_most) if given(own.lead, self.scale_lead) else 1.0

    def _idle_rule(self, own: Override) -> IdleRule:
        return IdleRule(
            limit=_d(given(own.idle_limit_seconds, self.idle_limit_seconds)),
            lead=_d(given(own.idle_warning_lead_seconds, self.idle_warning_lead_seconds)),
            mode=given(own.unbooking_mode, self.unbooking_mode),
            row_gap=_d(given(own.unbooking_row_gap_seconds, self.unbooking_row_gap_seconds)),
            cancel_current=given(own.unbook_current_slot, self.unbook_current_slot),
            uninstall=given(own.uninstall_on_idle, self.uninstall_on_idle),
            uninstall_guard=_d(given(own.uninstall_guard_seconds, self.uninstall_guard_seconds)),
            exempt=own.exempt,
            uninstall_tell=_d(given(own.uninstall_tell_seconds, self.uninstall_tell_seconds)),
            quiet=self._quiet_hours(),
        )

    def _quiet_hours(self) -> QuietHours:
        if not self.idle_quiet_hours:
            return NEVER_QUIET
        return QuietHours(*kind.hours(self.idle_quiet_hours), ZoneInfo(self.timezone))

    def _pacing(self, own: Override) -> CommandPacing:
        return CommandPacing(
            cooldown=_d(given(own.cooldown_seconds, self.scale_cooldown_seconds)),
            backoff_first=_d(self.command_backoff_first_seconds),
            backoff_longest=_d(self.command_backoff_longest_seconds),
        )

    def _own_rules(self) -> dict[str, tuple[ScalingRule, IdleRule]]:
        return {name: self._rules(own) for name, own in self.policy_overrides.items()}

    def policy(self) -> Policy:
        scaling, idle = self._rules(Override())
        return Policy(
            scaling_rule=scaling,
            idle_rule=idle,
            own_rules=self._own_rules(),
            pacing=self._pacing(Override()),
            enforce_per_run=self.idle_enforce_max_per_run,
            commands_per_run=self.scale_commands_per_run,
            budget=FleetBudget(self.scale_fleet_max_replicas, self.scale_fleet_budgets),
            saga_timeout=_d(self.saga_timeout_seconds),
            retention=_d(self.history_retention_seconds),
            dry_run=self.dry_run,
            surge_min=self.idle_surge_min,
            surge_share=self.idle_surge_share,
            surge_window=_d(self.idle_surge_window_seconds),
            keep_longest=_d(self.keep_longest_seconds),
            own_pacing={name: self._pacing(own) for name, own in self.policy_overrides.items()},
        )


def _d(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _s(duration: timedelta) -> float:
    return duration.total_seconds()
