"""Models about which nothing changes while nobody calls them: of a large fleet most are so at most times."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple
from uuid import UUID

from limiter.domain.audit import standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.policy import Policy
from limiter.domain.scaling_rule import ScalingRule

SETTLED = standing_of(Decision.HOLD, Reason.WITHIN_TARGET)


def settled(rule: ScalingRule, model: ServedModel, state: ScalingState) -> bool:
    """True if `decide` would change nothing about this model, whatever the time, as long as nobody calls it."""
    return (
        model.replicas == state.replicas == rule.min_replicas
        and state.standing == SETTLED
        and state.overloaded_since is None
        and state.underused_since is None
        and model.name == state.name
        and not rule.exempt
    )


class Settled(NamedTuple):
    """What one tick leaves for the next: of this fleet in these states, all models are settled but the `unsettled`."""

    policy: Policy
    fleet: Fleet
    scaling_states: Mapping[UUID, ScalingState]
    unsettled: frozenset[str]  # the names of which some model is not

    def is_of(self, policy: Policy, fleet: Fleet, scaling_states: Mapping[UUID, ScalingState]) -> bool:
        """True if it is about this very fleet in these very states."""
        return self.policy is policy and self.fleet is fleet and self.scaling_states is scaling_states

    def others(self, called: AbstractSet[str], commanded: Iterable[UUID]) -> list[ServedModel]:
        """The models that may not be settled now: those that were not, of the names called, and those commanded."""
        by_id = self.fleet.by_id
        names = self.unsettled | called | {by_id[id].name for id in commanded if id in by_id}
        return [model for model in self.fleet.models if model.name in names]
