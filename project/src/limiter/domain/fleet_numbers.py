"""The numbers about the whole fleet that every replica shows alike."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelNumbers:
    """Of one model name: calls per second (None: not known), replicas, and the seconds since its last call."""

    rps: float | None
    replicas: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class FleetNumbers:
    """Ages are in seconds, the next deadline in Unix seconds; None where there is none.

    `without_enough` are the models to which the budget does not grant what they need, `flapping` those that were
    scaled up and down twice each within an hour. `by_model` is only filled where it is asked for.
    """

    models: int
    replicas: int
    without_enough: int
    in_progress: Mapping[str, int]
    commands: Mapping[str, int]
    spells: Mapping[str, int]
    next_deadline: float | None
    pending: int
    oldest_event: float | None
    paused: Mapping[str, bool]
    reading_ages: Mapping[str, float]
    flapping: int = 0
    by_model: Mapping[str, ModelNumbers] | None = None
