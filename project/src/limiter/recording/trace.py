"""What one run of an idle job read and did, as its recording says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from limiter.domain.audit import DecisionRecord
from limiter.domain.reservations import Slot
from limiter.domain.snapshot import BookingKey, Snapshot


@dataclass(frozen=True, slots=True)
class RunTrace:
    """A run, or a part of one: snapshots, each with the booking it was read for, decisions, and slots cancelled.

    `acted` was carried out; `held` changed a decision to wait.
    """

    snapshots: tuple[tuple[BookingKey | None, Snapshot], ...] = ()
    acted: tuple[DecisionRecord, ...] = ()
    held: tuple[DecisionRecord, ...] = ()
    cancelled: tuple[tuple[BookingKey, Slot], ...] = ()

    @classmethod
    def joined(cls, parts: Iterable[RunTrace]) -> RunTrace:
        """All parts as one, in their order."""
        parts = list(parts)
        return cls(
            snapshots=tuple(chain.from_iterable(part.snapshots for part in parts)),
            acted=tuple(chain.from_iterable(part.acted for part in parts)),
            held=tuple(chain.from_iterable(part.held for part in parts)),
            cancelled=tuple(chain.from_iterable(part.cancelled for part in parts)),
        )
