"""What the checker reads: everything recorded from outside, and the runs and events of the tables.

All times are Unix seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

SpellIdentity = tuple[str, str]  # reservation and idle_since: what identifies a user's idle spell from outside


@dataclass(frozen=True)
class Named:
    """A slot that a warning puts at risk."""

    slot: str
    reservation: str
    end: float


@dataclass(frozen=True)
class Received:
    """One event as the notifier received it, after deduplication by message_id: what it said first stands.

    `cancelled` are the slots told as cancelled, `already_gone` those told as gone before. `again` is when it was
    delivered afterwards, and what it then said as the earliest cancelling.
    """

    at: float
    message_id: str
    user: str
    model: str
    stage: str
    spell: SpellIdentity
    named: tuple[Named, ...] = ()
    not_before: float = 0.0
    cancelled: tuple[str, ...] = ()
    already_gone: tuple[str, ...] = ()
    again: tuple[tuple[float, float], ...] = ()

    @property
    def deliveries(self) -> tuple[float, ...]:
        """When it was delivered."""
        return (self.at, *(at for at, _ in self.again))

    def promised(self, at: float) -> float:
        """What it had said by then as the earliest cancelling, when it was last delivered."""
        return max((one for one in self.again if one[0] <= at), default=(0.0, self.not_before))[1]


@dataclass(frozen=True)
class Lost:
    """A stretch of time of which the database knows nothing since `until`: it was put back to how it was at `since`."""

    since: float
    until: float

    def covers(self, at: float) -> bool:
        """Whether it happened in that time."""
        return self.since <= at <= self.until


@dataclass(frozen=True)
class Deleted:
    """One slot that the booking service deleted for us, and its user."""

    at: float
    user: str
    model: str
    slot: str
    reservation: str = ""


@dataclass(frozen=True)
class Attempt:
    """One DELETE that reached the booking service, `slot` None for a whole reservation; `refused` by a status."""

    at: float
    user: str
    model: str
    reservation: str
    slot: str | None
    refused: bool = False

    @property
    def target(self) -> tuple[str, str | None]:
        """What it is to delete: an attempt that is repeated has the same."""
        return self.reservation, self.slot

    def concerns(self, named: Named) -> bool:
        """Whether it is to delete this slot."""
        return self.reservation == named.reservation and self.slot in (None, named.slot)


@dataclass(frozen=True)
class BookedOn:
    """One slot that a warned user added to a reservation."""

    at: float
    slot: str


@dataclass(frozen=True)
class Read:
    """One GET of a single reservation."""

    at: float
    reservation: str


@dataclass(frozen=True)
class GivenBack:
    """One slot that its user cancelled himself."""

    at: float
    slot: str


@dataclass(frozen=True)
class Kept:
    """A keep of one user's booking, from its acknowledgement to its end."""

    at: float
    until: float
    user: str
    model: str


@dataclass(frozen=True)
class Paused:
    """A pause of idle_enforce, from its acknowledgement until its end was asked for."""

    at: float
    until: float


@dataclass(frozen=True)
class Asked:
    """One command that the dispatcher accepted; `until` is when its saga ended, None if it has not."""

    at: float
    model: str
    replicas: int | None
    until: float | None = None


@dataclass(frozen=True)
class Ran:
    """One row of job_run; `until` is None while it runs or if it was lost."""

    job: str
    epoch: int
    due_slot: float
    cause: str
    state: str
    at: float
    until: float | None


@dataclass(frozen=True)
class Published:
    """One row of the outbox that the limiter has marked as published."""

    message_id: str


@dataclass
class History:
    """Everything recorded, and the settings it is checked against; `lead` in seconds."""

    lead: float
    min_replicas: int
    max_replicas: int
    events: Sequence[Received] = ()
    deletions: Sequence[Deleted] = ()
    attempts: Sequence[Attempt] = ()
    given_back: Sequence[GivenBack] = ()
    booked_on: Sequence[BookedOn] = ()
    reads: Sequence[Read] = ()
    keeps: Sequence[Kept] = ()
    pauses: Sequence[Paused] = ()
    lost: Sequence[Lost] = ()
    commands: Sequence[Asked] = ()
    runs: Sequence[Ran] = ()
    published: Sequence[Published] = ()
    always_used: frozenset[str] = field(default_factory=frozenset)

    def known(self, at: float, later: float = float("inf")) -> bool:
        """Whether at `later` the database still knows what happened at this moment."""
        return not any(lost.covers(at) and lost.until <= later for lost in self.lost)

    def known_until(self, at: float) -> float:
        """Until when the database knows what happened at this moment: infinity, if it was never put back since."""
        return min((lost.until for lost in self.lost if lost.covers(at)), default=float("inf"))

    def came_between(self, gone: Deleted) -> bool:
        """Whether the slot was booked after the last GET of its reservation, so that no look before could show it."""
        reads = [read.at for read in self.reads if read.reservation == gone.reservation and read.at <= gone.at]
        return any(record.slot == gone.slot and reads and record.at >= max(reads) for record in self.booked_on)

    def last_warning(self, model: str, at: float, user: str | None = None) -> Received | None:
        """The latest warning about the model, of this user or of any, that was delivered by then."""
        warnings = [
            event
            for event in self.events
            if event.stage == "warning" and event.model == model and event.at <= at and user in (None, event.user)
        ]
        return max(warnings, key=lambda warning: warning.at, default=None)

    def last_known_warning(self, model: str, at: float) -> Received | None:
        """The latest warning about the model of whose delivery the database knows at that moment."""
        events = [event for event in self.events if any(self.known(one, at) for one in event.deliveries if one <= at)]
        return replace(self, events=events).last_warning(model, at)

    def gone_at(self, slot: str) -> float:
        """When the slot was deleted or given back; infinity if it is still booked."""
        deleted = [record.at for record in self.deletions if record.slot == slot]
        given_back = [record.at for record in self.given_back if record.slot == slot]
        return min(deleted + given_back, default=float("inf"))
