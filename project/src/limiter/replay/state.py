"""What the service remembers, in the memory of one process."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

from limiter.domain.audit import DecisionRecord, standing_of
from limiter.domain.command import Command, CommandKind, new_command
from limiter.domain.deciding import FleetDecisions
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.idleness import IdleSpell, SpellState, Verdict
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Cancellation, Slot
from limiter.domain.snapshot import BookingKey, PriorState, Snapshot, take_snapshot
from limiter.domain.usage import Memory, Scrape


@dataclass(frozen=True, slots=True)
class Cut:
    """One slot that is cancelled, and for whose booking."""

    at: datetime
    key: BookingKey
    slot: Slot


@dataclass
class SimulatedState:
    """Everything the service keeps in Postgres; decisions are added to the list that a method is given."""

    policy: Policy
    memory: Memory = field(default_factory=Memory)
    scaling_states: dict[UUID, ScalingState] = field(default_factory=dict)
    commands: dict[UUID, Command] = field(default_factory=dict)
    spells: dict[BookingKey, IdleSpell] = field(default_factory=dict)
    closed: dict[BookingKey, datetime] = field(default_factory=dict)
    standing: dict[BookingKey, str] = field(default_factory=dict)
    resumed_at: datetime | None = None
    left: dict[UUID, list[Cancellation]] = field(default_factory=dict)  # by spell: the DELETEs still to be sent
    cuts: list[Cut] = field(default_factory=list)
    planned: list[Command] = field(default_factory=list)
    followed: set[BookingKey] = field(default_factory=set)  # whose cancelling ends when somebody says so, by `end`
    over: set[UUID] = field(default_factory=set)  # the spells that only wait for that

    def _remember(self, fleet: Fleet, decided: FleetDecisions) -> None:
        changed = {one.model.id: one.verdict.scaling_state for one in decided.decided}
        if fleet.complete and len(self.scaling_states | changed) > len(fleet.models):
            self.scaling_states = {state.model_id: state for state in decided.settled}
        self.scaling_states = self.scaling_states | changed

    def _command(self, model: ServedModel, kind: CommandKind, replicas: int | None, at: datetime) -> Command:
        last, dry = self.commands.get(model.id), self.policy.dry_run
        self.commands[model.id] = command = new_command(uuid4(), model, kind, replicas, last, at, dry_run=dry)
        self.planned.append(command)
        return command

    def snapshot(
        self,
        at: datetime,
        scrapes: Sequence[Scrape],
        fleet: Fleet,
        bookings: Bookings,
        memory: Memory | None = None,
        only: BookingKey | None = None,
    ) -> Snapshot:
        """The snapshot of an idle job at `at`; `memory` is what was remembered then, where that differs from now."""
        prior = PriorState(
            self.scaling_states, dict(self.spells), dict(self.closed), dict(self.standing), self.resumed_at
        )
        return take_snapshot(self.policy, fleet, bookings, scrapes, memory or self.memory, prior, at, only)

    def delivered(self, key: BookingKey, at: datetime) -> None:
        """The broker has confirmed the warning."""
        spell = self.spells[key]
        if spell.state is SpellState.WARNING_PENDING:
            self.spells[key] = replace(spell, state=SpellState.WARNED, delivered_at=at)

    def end(self, key: BookingKey, at: datetime) -> None:
        """The cancelling for this booking is over."""
        del self.spells[key]
        self.closed[key] = at

    def _close(
        self, found: list[DecisionRecord], snapshot: Snapshot, spell: IdleSpell, verdict: Verdict, at: datetime
    ) -> None:
        self._act(found, spell.key, snapshot.verdict_record(spell.key, verdict))
        del self.spells[spell.key]
        self.closed[spell.key] = at

    def _wait(self, found: list[DecisionRecord], snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> None:
        if self.standing.get(key) != standing_of(verdict.decision, verdict.reason):
            self._hold(found, key, snapshot.verdict_record(key, verdict))

    def _act(self, found: list[DecisionRecord], key: BookingKey, record: DecisionRecord) -> None:
        self.standing[key] = standing_of(record.decision, record.reason)
        found.append(record)

    def _hold(self, found: list[DecisionRecord], key: BookingKey, record: DecisionRecord) -> None:
        if self.standing.get(key) != standing_of(record.decision, record.reason):
            self._act(found, key, record)
