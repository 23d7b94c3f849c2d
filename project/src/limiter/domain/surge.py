"""A surge: so many bookings turn idle, or fall due, at once that the reading behind it is rather wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from limiter.domain.audit import standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.verdict import Verdict

_UNADDRESSED = standing_of(Decision.HOLD, Reason.ADDRESS_UNKNOWN)


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


def turned_idle(verdicts: Mapping[BookingKey, Verdict], standing: Mapping[BookingKey, str]) -> int:
    """How many would be warned now; who could not be in the run before, for want of an address, was idle by then.

    Else these would pile up, one after the other, to a surge that lasts as long as their addresses are not known.
    """
    warned = (key for key, verdict in verdicts.items() if verdict.decision is Decision.WARN)
    return sum(standing.get(key) != _UNADDRESSED for key in warned)


def held_by_surge(standing: str | None) -> Reason:
    """Why a booking that would be warned is not while a surge stands: who waits for an address goes on waiting."""
    return Reason.ADDRESS_UNKNOWN if standing == _UNADDRESSED else Reason.SURGE


def bookings_since(snapshot: Snapshot, since: datetime) -> set[BookingKey]:
    """The bookings of which slots ran then or have begun since, over by now or not.

    In `ALL` a cancelling is often due right when a slot ends: of the bookings that run then it would be too many.
    """
    return {
        key
        for key, slots in snapshot.users.items()
        if any(start <= snapshot.at and since < end for start, end, _ in slots.rows)
    }
