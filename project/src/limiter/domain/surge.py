"""A surge: so many bookings turn idle, or fall due, at once that the reading behind it is rather wrong."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class SurgeKind(StrEnum):
    """What would happen to too many users at once."""

    WARNING = "warning"
    CANCELLING = "cancelling"


@dataclass(frozen=True, slots=True)
class Surge:
    """A surge that stands; nothing goes out on its account until a person allows it or the share falls."""

    kind: SurgeKind
    since: datetime
    allowed_at: datetime | None = None
    allowed_by: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether a person said that the reading is right."""
        return self.allowed_at is not None


def is_surge(new: int, all: int, at_least: int, share: float) -> bool:
    """Whether `new` of `all` users is too many at once: above the number and above the share."""
    return new > at_least and new > share * all
