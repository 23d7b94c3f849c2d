"""Keeps: bookings that a person asked to leave alone for a while, all of a model or one user's."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Keep:
    """Nobody is warned or cancelled for this model before `until`; `user_id` None: no user of it."""

    model_name: str
    user_id: UUID | None
    since: datetime
    until: datetime
    reason: str | None = None
    by: str | None = None

    def concerns(self, model_name: str, user_id: UUID) -> bool:
        """Whether it is about this user's bookings of the model, in force or over."""
        return self.model_name == model_name and self.user_id in (None, user_id)

    def covers(self, model_name: str, user_id: UUID, at: datetime) -> bool:
        """Whether it keeps this user's bookings of the model at `at` or later.

        `since` is no border: a keep recorded in the middle of a run must stop that run, whose time is a moment earlier.
        """
        return at < self.until and self.concerns(model_name, user_id)


def kept(keeps: Iterable[Keep], name: str, user_id: UUID, at: datetime) -> bool:
    """Whether any of the keeps covers this user's bookings of the model at `at`, or did at a moment since."""
    return any(keep.covers(name, user_id, at) for keep in keeps)


def keep_ended_at(keeps: Iterable[Keep], name: str, user_id: UUID, at: datetime) -> datetime | None:
    """When the latest keep of this user's bookings that is over at `at` ended; None if there was none."""
    ended = (keep.until for keep in keeps if keep.until <= at and keep.concerns(name, user_id))
    return max(ended, default=None)


def by_model(keeps: Iterable[Keep]) -> dict[str, list[Keep]]:
    """The keeps of each model name, so that a large fleet need not look at all of them for each booking."""
    found: dict[str, list[Keep]] = {}
    for keep in keeps:
        found.setdefault(keep.model_name, []).append(keep)
    return found
