"""The running models, as the registry lists them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One running instance of an ML model; several may share a name, and so their traffic.

    `tags` are those of its registry tags that have a budget; None if they are not known.
    """

    id: UUID
    name: str
    replicas: int
    tags: frozenset[str] | None = frozenset()


@dataclass(frozen=True)
class Fleet:
    """Every running model that could be understood.

    `unreadable` are the ids of the entries that could not; `complete` is false when not even every id is known, so that
    absence proves nothing. `last_known` are instances that may run still, as they were: their names and replicas count,
    and nothing is decided about them.
    """

    models: tuple[ServedModel, ...]
    complete: bool = True
    unreadable: frozenset[UUID] = frozenset()
    last_known: tuple[ServedModel, ...] = ()

    def is_gone(self, model_id: UUID) -> bool:
        """True if the model certainly runs no more."""
        return self.complete and model_id not in self.by_id and model_id not in self.unreadable

    def with_last_known(self, scaling_states: "Iterable[ScalingState]") -> "Fleet":
        """This fleet, with the instances that are not among the understood and not certainly gone, as last known."""
        if self.complete and not self.unreadable:
            return self  # what is not listed is gone
        missing = tuple(
            ServedModel(state.model_id, state.name, state.replicas, None)
            for state in scaling_states
            if state.model_id not in self.by_id and not self.is_gone(state.model_id)
        )
        return replace(self, last_known=missing) if missing else self

    @cached_property
    def by_id(self) -> Mapping[UUID, ServedModel]:
        return {model.id: model for model in self.models}

    @property
    def ids(self) -> frozenset[UUID]:
        """Of every model that runs, or may run still."""
        return self.unreadable.union(self.by_id, (model.id for model in self.last_known))

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[ServedModel]]:
        """The instances of each name in the order of their ids, the last known among them."""
        found: dict[str, list[ServedModel]] = {}
        for model in sorted(self.models + self.last_known, key=lambda model: model.id.int):
            found.setdefault(model.name, []).append(model)
        return found

    @cached_property
    def replicas_by_name(self) -> Mapping[str, int]:
        totals: dict[str, int] = {}
        for model in self.models + self.last_known:
            totals[model.name] = totals.get(model.name, 0) + model.replicas
        return totals

    @cached_property
    def unsure_names(self) -> frozenset[str]:
        """The names of which some instance is only known as it was, so that the others' share of the calls is not."""
        return frozenset(model.name for model in self.last_known)


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
    underused_peak: float | None = None  # the highest calls per second since underused_since


def last_known_fleet(scaling_states: Iterable[ScalingState]) -> Fleet:
    """The models as they were last known, for the time the registry does not answer."""
    return Fleet(tuple(ServedModel(state.model_id, state.name, state.replicas) for state in scaling_states), False)
