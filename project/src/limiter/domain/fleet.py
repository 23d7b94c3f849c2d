"""The running models, as the registry lists them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One running instance of an ML model; several may share a name, and so their traffic."""

    id: UUID
    name: str
    replicas: int


@dataclass(frozen=True)
class Fleet:
    """Every running model; `complete` is false when an entry could not be understood, so absence proves nothing."""

    models: tuple[ServedModel, ...]
    complete: bool = True

    @cached_property
    def by_id(self) -> Mapping[UUID, ServedModel]:
        return {model.id: model for model in self.models}

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[ServedModel]]:
        """The instances of each name, in the order of their ids."""
        found: dict[str, list[ServedModel]] = {}
        for model in sorted(self.models, key=lambda model: model.id):
            found.setdefault(model.name, []).append(model)
        return found

    @cached_property
    def replicas_by_name(self) -> Mapping[str, int]:
        totals: dict[str, int] = {}
        for model in self.models:
            totals[model.name] = totals.get(model.name, 0) + model.replicas
        return totals


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What rps_check remembers of a running model: since when it runs, and since when it is overloaded or underused."""

    model_id: UUID
    name: str
    replicas: int
    first_seen_at: datetime
    overloaded_since: datetime | None = None
    underused_since: datetime | None = None
    standing: str | None = None  # the last decision and its reason, to tell a change from another tick


def last_known_fleet(scaling_states: Iterable[ScalingState]) -> Fleet:
    """The models as they were last known, for the time the registry does not answer."""
    return Fleet(tuple(ServedModel(state.model_id, state.name, state.replicas) for state in scaling_states), False)
