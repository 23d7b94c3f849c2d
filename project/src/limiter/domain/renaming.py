"""A model that has another name now: what was known of its use by the name before goes along."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.settled import Settled
from limiter.domain.usage import Observation, Usage


def with_former_use(
    observation: Observation,
    fleet: Fleet,
    scaling_states: Mapping[UUID, ScalingState],
    last: Settled | None = None,
    only: UUID | None = None,
) -> Observation:
    """The observation, in which a renamed model was last used when it was so by the name it is remembered by.

    `last` is what the last tick left: of the same fleet in the same states nothing was renamed since. With `only`, no
    other model is looked at: before each DELETE that would take as long as the fleet is large.
    """
    if last is not None and last.fleet is fleet and last.scaling_states is scaling_states:
        return observation
    usage, moved = observation.memory.usage, dict[str, Usage]()
    models = fleet.models if only is None else [fleet.by_id[only]] if only in fleet.by_id else []
    for model in models:
        remembered = scaling_states.get(model.id)
        if remembered is None or remembered.name == model.name:
            continue
        before, now = usage.get(remembered.name), moved.get(model.name) or usage.get(model.name)
        if before is not None and (now is None or now.last_used_at < before.last_used_at):
            moved[model.name] = Usage(before.last_used_at, now.samples if now else ())
    if not moved:
        return observation
    return replace(observation, memory=replace(observation.memory, usage={**usage, **moved}))
