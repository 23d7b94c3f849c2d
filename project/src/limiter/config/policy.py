"""The settings that the policy is made of: all that a replay of recorded readings needs."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from limiter.config import kinds as kind
from limiter.config.base import ordered, seconds
from limiter.config.idleness import IdlenessSettings
from limiter.config.json_objects import Json
from limiter.config.overrides import Override
from limiter.config.scaling import ScalingSettings
from limiter.domain.budget import FleetBudget
from limiter.domain.idle_rule import IdleRule
from limiter.domain.policy import Policy
from limiter.domain.scaling_rule import ScalingRule


class PolicySettings(IdlenessSettings, ScalingSettings):
    """What decides about scaling, warning and cancelling; `example.env` says what each means."""

    policy_overrides: Json[dict[Annotated[str, Field(min_length=1)], Override]] = Field(default_factory=dict)
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
        return self.scaling_rule(own), self.idle_rule(own)

    def _own_rules(self) -> dict[str, tuple[ScalingRule, IdleRule]]:
        return {name: self._rules(own) for name, own in self.policy_overrides.items()}

    def policy(self) -> Policy:
        scaling, idle = self._rules(Override())
        return Policy(
            scaling_rule=scaling,
            idle_rule=idle,
            own_rules=self._own_rules(),
            pacing=self.pacing(Override()),
            enforce_per_run=self.idle_enforce_max_per_run,
            commands_per_run=self.scale_commands_per_run,
            budget=FleetBudget(self.scale_fleet_max_replicas, self.scale_fleet_budgets),
            saga_timeout=seconds(self.saga_timeout_seconds),
            retention=seconds(self.history_retention_seconds),
            dry_run=self.dry_run,
            surge_min=self.idle_surge_min,
            surge_share=self.idle_surge_share,
            surge_window=seconds(self.idle_surge_window_seconds),
            own_pacing={name: self.pacing(own) for name, own in self.policy_overrides.items()},
        )


def _s(duration: timedelta) -> float:
    return duration.total_seconds()
