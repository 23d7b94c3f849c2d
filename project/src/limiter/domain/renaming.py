"""A model that has another name now: what was known of its use by the name before goes along, and so do its keeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from limiter.domain.fleet import Fleet, ScalingState
from limiter.domain.keep import Keep, by_model
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
    for was, name in _renamed(fleet, scaling_states, only):
        before, now = usage.get(was), moved.get(name) or usage.get(name)
        if before is not None and (now is None or now.last_used_at < before.last_used_at):
            moved[name] = Usage(before.last_used_at, now.samples if now else ())
    if not moved:
        return observation
    return replace(observation, memory=replace(observation.memory, usage={**usage, **moved}))


def with_former_keeps(
    keeps: Sequence[Keep], fleet: Fleet, scaling_states: Mapping[UUID, ScalingState], only: UUID | None = None
) -> Sequence[Keep]:
    """The keeps, and those of each renamed model by its new name too, until rps_check has written them down."""
    if not keeps:
        return keeps
    of, known = by_model(keeps), set(keeps)
    names = dict.fromkeys(_renamed(fleet, scaling_states, only))
    more = dict.fromkeys(replace(keep, model_name=now) for was, now in names for keep in of.get(was, ()))
    return (*keeps, *(keep for keep in more if keep not in known))


def _renamed(fleet: Fleet, scaling_states: Mapping[UUID, ScalingState], only: UUID | None) -> Iterator[tuple[str, str]]:
    """The names, before and now, of the models that are remembered by another one than they have."""
    for model in fleet.models if only is None else [fleet.by_id[only]] if only in fleet.by_id else []:
        remembered = scaling_states.get(model.id)
        if remembered is not None and remembered.name != model.name:
            yield remembered.name, model.name
