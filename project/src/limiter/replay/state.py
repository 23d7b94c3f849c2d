"""What the service remembers, in the memory of one process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from typing import Any
from uuid import UUID, uuid4

from limiter.domain.audit import DecisionRecord, standing_of
from limiter.domain.command import Command, CommandKind, new_command
from limiter.domain.deciding import FleetDecisions
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ScalingState, ServedModel
from limiter.domain.idle_spell import IdleSpell, SpellState, StepState
from limiter.domain.keep import Keep
from limiter.domain.lasting import LastingVerdicts
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Slot
from limiter.domain.settled import Settled
from limiter.domain.snapshot import BookingKey, PriorState, Snapshot, take_snapshot
from limiter.domain.usage import Memory, Scrape
from limiter.domain.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Cut:
    """One slot that is cancelled, and for whose booking."""

    at: datetime
    key: BookingKey
    slot: Slot

    @property
    def slot_key(self) -> tuple[str, str]:
        """The ids of the slot, which stay when it is moved."""
        return (self.slot.reservation_id, self.slot.id)


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
    keeps: Sequence[Keep] = ()
    cuts: list[Cut] = field(default_factory=list)
    planned: list[Command] = field(default_factory=list)
    settled: Settled | None = None
    lasting: LastingVerdicts = field(default_factory=LastingVerdicts)
    saga_seconds: Mapping[str, float] = field(default_factory=dict)  # of a scale up of each name, where known

    def _remember(self, fleet: Fleet, decided: FleetDecisions) -> None:
        changed = {one.model.id: one.verdict.scaling_state for one in decided.decided}
        kept = self.scaling_states
        if len(kept | changed) > len(fleet.models):
            kept = {id: state for id, state in kept.items() if not fleet.is_gone(id)}
        self.scaling_states = kept | changed
        self.settled = Settled(self.policy, fleet, self.scaling_states, decided.unsettled)

    def _command(self, model: ServedModel, kind: CommandKind, replicas: int | None, at: datetime) -> Command:
        last, dry = self.commands.get(model.id), self.policy.dry_run
        if last is not None and last.spell_id is not None:
            # The ledger has every command, and this only the latest.
            self.spells |= {key: self._with_uninstall(spell) for key, spell in self.spells.items()}
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
            scaling_states=self.scaling_states,
            spells={key: self._with_uninstall(spell) for key, spell in _of(self.spells, only).items()},
            closed=_of(self.closed, only),
            standing=_of(self.standing, only),
            resumed_at=self.resumed_at,
            keeps=self.keeps,
        )
        fleet = fleet.with_last_known(self.scaling_states.values())
        return take_snapshot(self.policy, fleet, bookings, scrapes, memory or self.memory, prior, at, only)

    def _with_uninstall(self, spell: IdleSpell) -> IdleSpell:
        """The spell with its uninstall as the ledger has it."""
        command = self.commands.get(spell.model_id)
        ours = command is not None and command.spell_id == spell.id
        return replace(spell, uninstall=command) if ours and command != spell.uninstall else spell

    def delivered(self, key: BookingKey, at: datetime) -> None:
        """The broker has confirmed the warning."""
        spell = self.spells[key]
        if spell.state is SpellState.WARNING_PENDING:
            promised = self.policy.idle(spell.model_name).earliest(spell.not_before, at)
            self.spells[key] = replace(spell, state=SpellState.WARNED, delivered_at=at, not_before=promised)

    def adopt(self, key: BookingKey, recorded: IdleSpell) -> None:
        """Let a spell, its uninstall, and what was really cancelled for it stand as they were recorded."""
        self.spells[key] = recorded
        ours, theirs = self.commands.get(recorded.model_id), recorded.uninstall
        if ours is not None and theirs is not None and ours.spell_id == recorded.id:
            self.commands[recorded.model_id] = replace(theirs, spell_id=recorded.id)
        still_planned = {(slot.reservation_id, slot.id) for slot in recorded.slots(StepState.PLANNED)}
        lately = takewhile(lambda cut: cut.at >= recorded.opened_at, reversed(self.cuts)) if still_planned else ()
        if any(cut.slot_key in still_planned and cut.key == key for cut in lately):
            self.cuts = [cut for cut in self.cuts if cut.key != key or cut.slot_key not in still_planned]

    def closed_by_hand(self, key: BookingKey, at: datetime) -> None:
        """A person has withdrawn the warning, whatever the policy says."""
        spell = self.spells.get(key)
        if spell is not None and spell.state in (SpellState.WARNING_PENDING, SpellState.WARNED):
            self._close(key, at)
            self.standing[key] = standing_of(Decision.WITHDRAW, Reason.BY_OPERATOR)

    def _close(self, key: BookingKey, at: datetime) -> None:
        del self.spells[key]
        self.closed[key] = at

    def _wait(self, found: list[DecisionRecord], snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> None:
        if not self._stands(key, verdict):
            self._hold(found, key, snapshot.verdict_record(key, verdict))

    def _stands(self, key: BookingKey, verdict: Verdict) -> bool:
        return self.standing.get(key) == standing_of(verdict.decision, verdict.reason)

    def _act(self, found: list[DecisionRecord], key: BookingKey, record: DecisionRecord) -> None:
        self.standing[key] = standing_of(record.decision, record.reason)
        found.append(record)

    def _hold(self, found: list[DecisionRecord], key: BookingKey, record: DecisionRecord) -> None:
        if self.standing.get(key) != standing_of(record.decision, record.reason):
            self._act(found, key, record)


def _of(all: Mapping[BookingKey, Any], only: BookingKey | None) -> dict[BookingKey, Any]:
    """A copy of what is known of all bookings, or of one alone."""
    return dict(all) if only is None else {only: all[only]} if only in all else {}
