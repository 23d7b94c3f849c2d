"""All rules together: the fleet's, and those of the models that have their own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from limiter.domain.budget import FleetBudget
from limiter.domain.command import Command, CommandKind, CommandPacing, CommandState
from limiter.domain.decision import Reason
from limiter.domain.fleet import Fleet
from limiter.domain.idle_rule import IdleRule
from limiter.domain.scaling_rule import ScalingRule


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
    surge_min: int = 20  # more bookings than this, and
    surge_share: float = 0.5  # more than this share of all: a surge
    surge_window: timedelta = timedelta(seconds=1800)  # cancellings begun within it count together
    commands_per_run: int = 50
    budget: FleetBudget = field(default_factory=FleetBudget)
    own_pacing: Mapping[str, CommandPacing] = field(default_factory=dict)

    def scaling(self, name: str) -> ScalingRule:
        own = self.own_rules.get(name)
        return own[0] if own else self.scaling_rule

    def idle(self, name: str) -> IdleRule:
        own = self.own_rules.get(name)
        return own[1] if own else self.idle_rule

    def pacing_of(self, name: str) -> CommandPacing:
        """How long a model of this name is left alone after a command."""
        return self.own_pacing.get(name, self.pacing)

    def forbids(self, command: Command) -> str | None:
        """Why a scale that was planned, perhaps under other rules, may not be sent under these; None: it may."""
        rule = self.scaling(command.model_name)
        if self.dry_run:
            return "DRY_RUN is on"
        if rule.exempt:
            return f"{command.model_name} is exempt"
        wanted = command.wanted or 0
        if command.kind is not CommandKind.UNINSTALL and not rule.min_replicas <= wanted <= rule.max_replicas:
            return f"{wanted} replicas are not between {rule.min_replicas} and {rule.max_replicas}"
        return None

    def unshown(self, fleet: Fleet, latest: Iterable[Command], now: datetime) -> list[Command]:
        """The commands of which the registry may not show yet what they make of their models.

        Those that are unfinished or have just ended, and completed ones of models that are only known as they were, for
        as long as the service remembers them: a replay knows them all.
        """
        untold, since = fleet.ids - fleet.by_id.keys(), now - self.recent
        return [
            one
            for one in latest
            if one.unfinished
            or self.pacing_of(one.model_name).blocks(one, now) is Reason.COOLING_DOWN
            or (one.state is CommandState.COMPLETED and one.model_id in untold and (one.finished_at or now) >= since)
        ]

    def row_gap(self, name: str) -> timedelta:
        """The pause up to which a row of this model's slots is unbroken."""
        return self.idle(name).row_gap

    @property
    def recent(self) -> timedelta:
        """For how long a command may keep another of its model from being sent, once it has ended."""
        return 2 * self.longest_rest + self.saga_timeout

    @property
    def longest_rest(self) -> timedelta:
        """How long an ended command can matter to what comes next."""
        pacings = (self.pacing, *self.own_pacing.values())
        return max(max(one.cooldown, one.backoff_longest) for one in pacings)

    @property
    def window(self) -> timedelta:
        """How far back calls have to be remembered: the longest window of all rules."""
        rules = (self.scaling_rule, *(own for own, _ in self.own_rules.values()))
        return max(rule.memory for rule in rules)
