"""The settings that scaling is decided by, and the rules they make."""

from typing import Annotated

from pydantic import Field

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment, given, seconds
from limiter.config.json_objects import Json
from limiter.config.overrides import Override
from limiter.domain.command import CommandPacing
from limiter.domain.scaling_rule import ScalingRule


class ScalingSettings(FromEnvironment):
    """What decides about scaling; `example.env` says what each means."""

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
    scale_fleet_budgets: Json[dict[Annotated[str, Field(min_length=1)], kind.Count]] = Field(default_factory=dict)
    scale_min_replicas: kind.Count = 1
    scale_max_replicas: kind.Count = 8
    command_backoff_first_seconds: kind.Seconds = 60
    command_backoff_longest_seconds: kind.Seconds = 1800
    saga_timeout_seconds: kind.Seconds = 900
    rps_check_interval_seconds: kind.Seconds = 15
    rps_check_cron: kind.Cron = ""

    def scaling_rule(self, own: Override) -> ScalingRule:
        """The rule by which a model with these overrides is scaled."""
        return ScalingRule(
            target_rps=given(own.target_rps_per_replica, self.scale_target_rps_per_replica),
            tolerance=given(own.tolerance, self.scale_tolerance),
            headroom=given(own.down_headroom, self.scale_down_headroom),
            min_replicas=given(own.min_replicas, self.scale_min_replicas),
            max_replicas=given(own.max_replicas, self.scale_max_replicas),
            up_window=seconds(given(own.up_window_seconds, self.scale_up_window_seconds)),
            down_window=seconds(given(own.down_window_seconds, self.scale_down_window_seconds)),
            up_stabilization=seconds(given(own.up_stabilization_seconds, self.scale_up_stabilization_seconds)),
            down_stabilization=seconds(given(own.down_stabilization_seconds, self.scale_down_stabilization_seconds)),
            exempt=own.exempt,
            burst_factor=given(own.burst_factor, self.scale_burst_factor),
            lead_most=self._lead_most(own),
            lead_default=seconds(given(own.lead_default_seconds, self.scale_lead_default_seconds)),
            down_step=given(own.down_step, self.scale_down_step),
            by_calendar=bool(self.rps_check_cron),
            burst_window=seconds(self._usual_tick() / 2),
        )

    def _usual_tick(self) -> float:
        """Seconds between two runs of rps_check; by a calendar, whose finest step is a minute, it has no interval."""
        return 60 if self.rps_check_cron else self.rps_check_interval_seconds

    def _lead_most(self, own: Override) -> float:
        return given(own.lead_most, self.scale_lead_most) if given(own.lead, self.scale_lead) else 1.0

    def pacing(self, own: Override) -> CommandPacing:
        """How long a model with these overrides is left alone after a command."""
        return CommandPacing(
            cooldown=seconds(given(own.cooldown_seconds, self.scale_cooldown_seconds)),
            backoff_first=seconds(self.command_backoff_first_seconds),
            backoff_longest=seconds(self.command_backoff_longest_seconds),
        )
