"""Plays a recording to a policy: what was recorded goes on as it was, except for what the policy itself changes.

While the policy decides as the recorded service did, it sees exactly what that saw. From the first other decision on,
the model's replicas, or the user's slots, are what the policy's own commands and cancellations make of them; calls
stay as they were recorded. A command that was not recorded takes as long as the recorded ones usually did.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from limiter.domain.audit import DecisionRecord, standing_of
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet
from limiter.domain.idle_spell import SpellState
from limiter.domain.job import Job
from limiter.domain.policy import Policy
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import Memory
from limiter.recording.format import Start
from limiter.recording.lines import Began, Idle, Line, RecordedSnapshot, Tick
from limiter.replay.divergence import Replicas, Slots
from limiter.replay.sagas import Sagas
from limiter.replay.simulation import Simulation

MEMORIES = 40  # an idle job's snapshot builds on one of the last ticks; half as many ticks ago would be minutes


@dataclass(frozen=True, slots=True)
class Moment:
    """The decisions of one recorded run, in the replay and as recorded."""

    at: datetime
    found: list[DecisionRecord]
    recorded: list[DecisionRecord]
    fleet: Fleet | None = None


@dataclass
class Player:
    """The replay of one recording under one policy."""

    policy: Policy
    simulation: Simulation = field(init=False)
    _began: bool = False
    _memories: dict[float | None, Memory] = field(default_factory=dict)
    _sagas: Sagas = field(init=False)
    _unaddressed: set[BookingKey] = field(default_factory=set)
    _replicas: Replicas = field(default_factory=Replicas)
    _slots: Slots = field(default_factory=Slots)
    _followed: set[BookingKey] = field(default_factory=set)  # whose spells were recorded too
    _decided: set[BookingKey] = field(default_factory=set)  # whose warning a recorded run has withdrawn or enforced
    _met: bool = False  # whether a run of an idle job was played

    def __post_init__(self) -> None:
        self.simulation = Simulation(self.policy)
        self._sagas = Sagas(self.simulation, self._replicas)

    def play(self, lines: Iterable[Line]) -> Iterator[Moment]:
        """Every run of the recording, one after the other."""
        for line in lines:
            match line:
                case Began(start=start):
                    self._begin(start)
                case Tick():
                    yield self._tick(line)
                case Idle():
                    yield self._idle(line)

    def _begin(self, start: Start) -> None:
        """Only the state of the first recorded process counts; the others go on from it."""
        if self._began:
            return
        self._began, simulation = True, self.simulation
        simulation.memory = start.memory
        simulation.scaling_states = {state.model_id: state for state in start.scaling_states}
        simulation.commands = {command.model_id: command for command in start.commands}
        simulation.spells = {spell.key: spell for spell in start.spells}
        simulation.closed = {(model, user): at for model, user, at in start.closed}
        simulation.standing = {(model, user): stands for model, user, stands in start.standing}
        self._unaddressed, simulation.surging = (
            {key for key, stands in simulation.standing.items() if stands == standing_of(Decision.HOLD, reason)}
            for reason in (Reason.ADDRESS_UNKNOWN, Reason.SURGE)
        )
        self._sagas.begin(start.commands)
        self._memories = {_stamp(start.memory): start.memory}

    # --- rps_check --------------------------------------------------------------------------------------------------

    def _tick(self, tick: Tick) -> Moment:
        self._sagas.settle(tick.at, tick.commands)
        fleet = self._replicas.of(tick.fleet) if tick.fleet else None
        self.simulation.saga_seconds = tick.saga_seconds
        found = self.simulation.tick(tick.at, tick.scrapes, fleet, tick.booked)
        self._sagas.note_planned()
        # Of the pages earlier versions remembered when the tick began, and their snapshots tell that.
        for stamp in (tick.at.timestamp(), _stamp(self.simulation.memory)):
            self._memories[stamp] = self.simulation.memory
        while len(self._memories) > MEMORIES:
            del self._memories[next(iter(self._memories))]
        return Moment(tick.at, found, tick.found, fleet)

    # --- idle_warning and idle_enforce ------------------------------------------------------------------------------

    def _idle(self, run: Idle) -> Moment:
        sweep = next((snapshot for snapshot in run.snapshots if snapshot.of is None), None)
        self._take_over(run.snapshots[0])
        self._follow(run.snapshots[0])
        self._note(run.found)
        again: dict[BookingKey, deque[RecordedSnapshot]] = {}
        for snapshot in run.snapshots:
            if snapshot.of is not None:
                again.setdefault(snapshot.of, deque()).append(snapshot)

        def read_fresh(key: BookingKey) -> Snapshot | None:
            if key not in again:
                return self._snapshot(sweep or run.snapshots[0])
            if not again[key]:
                return None  # the recorded run took no further step either
            snapshot = again[key].popleft()
            self.simulation.resumed_at, self.simulation.keeps = snapshot.resumed_at, snapshot.keeps
            self._follow_spell(key, snapshot)
            return self._snapshot(snapshot)

        found: list[DecisionRecord] = []
        if run.job is Job.IDLE_WARNING and sweep is not None:
            found += self._warn(run, sweep)
        if run.job is Job.IDLE_ENFORCE:
            found += self.simulation.enforce(self._snapshot(sweep) if sweep else None, read_fresh, run.at)
        elif sweep is not None and (alone := self._alone(run.at)):
            # Nobody recorded a run of idle_enforce for warnings that were not recorded.
            found += self.simulation.enforce(self._snapshot(sweep), read_fresh, run.at, alone)
        self._slots.keep((slot for _, slot in run.cancelled), run.snapshots[0].bookings, self.simulation.cuts)
        self._sagas.note_planned()
        return Moment(run.at, found, run.found)

    def _warn(self, run: Idle, sweep: RecordedSnapshot) -> list[DecisionRecord]:
        """A user who had no address when recorded, and has none yet, cannot be warned."""
        return self.simulation.warn(self._snapshot(sweep), self._unaddressed, delivers=False)

    def _note(self, found: Iterable[DecisionRecord]) -> None:
        """What the recorded run found of each user, in the way of a warning or a cancelling."""
        for one in found:
            if one.user_id is not None:
                key = (one.model_id, one.user_id)
                (self._unaddressed.add if one.reason is Reason.ADDRESS_UNKNOWN else self._unaddressed.discard)(key)
                surging = self.simulation.surging
                (surging.add if one.reason is Reason.SURGE else surging.discard)(key)
                if one.decision in (Decision.WARN, Decision.WITHDRAW, Decision.CANCEL):
                    (self._decided.discard if one.decision is Decision.WARN else self._decided.add)(key)

    def _alone(self, now: datetime) -> set[BookingKey]:
        """Whose spells, open before this run, were not recorded."""
        spells = self.simulation.spells.items()
        return {key for key, spell in spells if spell.opened_at < now and key not in self._followed}

    def _take_over(self, first: RecordedSnapshot) -> None:
        """What is open when a recording begins: only the first run of an idle job tells, if rps_check came before."""
        if not self._met:
            self.simulation.spells = first.spells | self.simulation.spells
            self.simulation.closed = first.closed | self.simulation.closed
        self._met = True

    def _follow(self, snapshot: RecordedSnapshot) -> None:
        """A spell that was recorded in the same state goes on as recorded; any other warning is delivered at once."""
        simulation = self.simulation
        simulation.resumed_at, simulation.keeps = snapshot.resumed_at, snapshot.keeps
        for key in self._followed - snapshot.spells.keys() - self._decided:
            simulation.closed_by_hand(key, snapshot.closed.get(key, snapshot.at))
        self._followed = {key for key in list(simulation.spells) if self._follow_spell(key, snapshot)}
        for key in simulation.spells.keys() - self._followed:
            simulation.delivered(key, simulation.spells[key].opened_at)

    def _follow_spell(self, key: BookingKey, snapshot: RecordedSnapshot) -> bool:
        """Let a spell stand as recorded, unless the policy has led it elsewhere; false if it was not recorded."""
        spell, recorded = self.simulation.spells.get(key), snapshot.spells.get(key)
        if spell is None or recorded is None or recorded.opened_at != spell.opened_at:
            return False
        if recorded.dry_run != spell.dry_run:
            return False  # what is played is another run than what was recorded: real, or dry
        delivered = spell.state is SpellState.WARNING_PENDING and recorded.state is SpellState.WARNED
        if recorded.state is spell.state or delivered:
            self.simulation.adopt(key, replace(recorded, id=spell.id))
        return True

    def _snapshot(self, snapshot: RecordedSnapshot) -> Snapshot:
        memory = self._memories.get(snapshot.basis, self.simulation.memory)
        fleet, bookings = self._replicas.of(snapshot.fleet), self._slots.of(snapshot.bookings, self.simulation.cuts)
        return self.simulation.snapshot(snapshot.at, snapshot.scrapes, fleet, bookings, memory, snapshot.of)


def _stamp(memory: Memory) -> float | None:
    return memory.read_at.timestamp() if memory.read_at else None
