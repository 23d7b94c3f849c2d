"""Verdicts that last: what cannot change before a known moment is not judged again until then.

Idle time grows no faster than time itself, and whatever is learned later only excuses: a later call, a new gap, a spell
closed since. So a booking in use stays so until its idle time could have reached N - Y, or its running slot has ended.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from limiter.domain.active_bookings import ActiveBooking, UserSlots
from limiter.domain.decision import Reason
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import Gap
from limiter.domain.verdict import Verdict

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
Moments = tuple[datetime | None, ...]


class Lasting(NamedTuple):
    """What one booking came to (None: no slot runs), and until when, if no moment that it rests on has gone back."""

    verdict: Verdict | None
    judged_at: datetime
    until: datetime
    slots: UserSlots
    rests_on: Moments


@dataclass(frozen=True)
class LastingVerdicts:
    """The verdicts of one snapshot on the bookings without an open spell, and what all of them rest on."""

    at: datetime = FIRST
    of: Mapping[BookingKey, Lasting] = field(default_factory=dict)
    gaps: Collection[Gap] = ()
    rests_on: Moments = (None, None)

    def after(self, snapshot: Snapshot) -> "LastingVerdicts":
        """Those of a later snapshot, under the same policy: only what may have changed is judged."""
        memory, prior, at = snapshot.observation.memory, snapshot.prior, snapshot.at
        rests_on = (memory.measured_since, prior.resumed_at)
        lasts = self.at <= at and not _gone_back(self.rests_on, rests_on) and set(self.gaps) <= set(memory.gaps)
        before = self.of if lasts else {}
        doubtful = _doubtful_names(snapshot)
        found = {}
        for key, slots in snapshot.users.items():
            if key in prior.spells:
                continue
            model = slots.model
            state, used = prior.scaling_states.get(model.id), memory.usage.get(model.name)
            first_seen_at, used_at = state.first_seen_at if state else None, used.last_used_at if used else None
            moments = (first_seen_at, used_at, prior.closed.get(key))
            doubted = model.name in doubtful
            known = None if doubted else before.get(key)
            if known is None or known.until <= at or not _stands_on(known, slots, moments):
                booking = slots.at(at)
                verdict = snapshot.judged(key, booking) if booking.row else None
                until = at if doubted else _until(snapshot, booking, verdict)
                known = Lasting(verdict, at, until, slots, moments)
            found[key] = known
        return LastingVerdicts(at, found, memory.gaps, rests_on)

    def verdicts(self) -> dict[BookingKey, Verdict]:
        """The verdict on each booking of which a slot, or a short pause between two slots of a row, runs."""
        return {key: one.verdict for key, one in self.of.items() if one.verdict is not None}

    def renewed(self, snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> Verdict:
        """The verdict with the numbers of this snapshot: one that lasts has those of the moment it was judged at."""
        lasting = self.of.get(key)
        if lasting is None or lasting.judged_at == snapshot.at:
            return verdict
        return snapshot.verdict(key) or verdict


def _doubtful_names(snapshot: Snapshot) -> AbstractSet[str]:
    """The names of models of which not everything is known, or whose bookings somebody keeps or kept."""
    all, observed = snapshot.fleet.replicas_by_name.keys(), snapshot.observation
    unknown = (observed.unknown_names if observed.complete else all) | snapshot.fleet.unsure_names
    unread = snapshot.bookings.unreadable
    by_id = {model.name for model in snapshot.fleet.models if str(model.id) in unread} if unread else set[str]()
    return unknown | unread | by_id | {keep.model_name for keep in snapshot.prior.keeps}


def _stands_on(known: Lasting, slots: UserSlots, moments: Moments) -> bool:
    return (known.slots is slots or known.slots == slots) and not _gone_back(known.rests_on, moments)


def _gone_back(before: Moments, now: Moments) -> bool:
    """Whether any of the moments is earlier than it was, or not known any more."""
    return now != before and any(
        was is not None and (moment is None or moment < was) for was, moment in zip(before, now, strict=True)
    )


def _until(snapshot: Snapshot, booking: ActiveBooking, verdict: Verdict | None) -> datetime:
    """The earliest moment at which the verdict may be another although nothing happens; at once, if not known."""
    at = snapshot.at
    begins = min((slot.start for slot in booking.row or booking.slots if slot.start > at), default=LAST)
    if verdict is None or verdict.reason is Reason.BETWEEN_SLOTS:
        return begins
    if verdict.reason is not Reason.IN_USE or booking.current is None:
        return at
    rule = snapshot.policy.idle(booking.model.name)
    return min(booking.current.end, at + rule.limit - rule.lead - verdict.idle)
