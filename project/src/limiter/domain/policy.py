"""All rules together: the fleet's, and those of the models that have their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from limiter.domain.command import CommandPacing
from limiter.domain.idleness import IdleRule
from limiter.domain.scaling import ScalingRule


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in force; `dry_run` decides and records everything, and does nothing."""

    scaling_rule: ScalingRule
    idle_rule: IdleRule
    own_rules: Mapping[str, tuple[ScalingRule, IdleRule]]
    pacing: CommandPacing
    enforce_per_run: int
    saga_timeout: timedelta
    retention: timedelta  # what ended longer ago is forgotten, so no idle time reaches back further
    dry_run: bool = False

    def scaling(self, name: str) -> ScalingRule:
        own = self.own_rules.get(name)
        return own[0] if own else self.scaling_rule

    def idle(self, name: str) -> IdleRule:
        own = self.own_rules.get(name)
        return own[1] if own else self.idle_rule

    @property
    def window(self) -> timedelta:
        """How far back calls have to be remembered."""
        return max(self.scaling_rule.up_window, self.scaling_rule.down_window)
