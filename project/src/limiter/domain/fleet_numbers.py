"""The numbers about the whole fleet that every replica shows alike."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetNumbers:
    """Ages are in seconds, the next deadline in Unix seconds; None where there is none.

    `without_enough` are the models to which the budget does not grant what they need.
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
