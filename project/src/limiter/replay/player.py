"""Plays a recording to a policy: what was recorded goes on as it was, except for what the policy itself changes.

While the policy decides as the recorded service did, it sees exactly what that saw. From the first other decision on,
the model's replicas, or the user's slots, are what the policy's own commands and cancellations make of them; calls
stay as they were recorded. A command that was not recorded takes as long as the recorded ones usually did.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

from limiter.domain.action import Command, CommandState, Decision, Job, Reason
from limiter.domain.audit import Finding, standing_of
from limiter.domain.fleet import Fleet
from limiter.domain.idleness import SpellState
from limiter.domain.policy import Policy
from limiter.domain.survey import Holder, Survey
from limiter.domain.usage import Memory
from limiter.recording import Start
from limiter.replay.otherwise import Replicas, Slots
from limiter.replay.reading import Began, Idle, Line, Look, Tick
from limiter.replay.world import World

DEFAULT_SAGA = timedelta(seconds=30)  # when no command of the recording has ended
MEMORIES = 20  # an idle job's look builds on one of the last ticks; more than this many ago would be minutes

Key = tuple[UUID, datetime, int | None]  # what makes two commands the same: model, moment, replicas


@dataclass(frozen=True, slots=True)
class Moment:
    """What one recorded run came to, in the replay and as recorded."""

    at: datetime
    found: list[Finding]
    recorded: list[Finding]
    fleet: Fleet | None = None


@dataclass
class Player:
    """The replay of one recording under one policy."""

    policy: Policy
    world: World = field(init=False)
    _began: bool = False
    _memories: dict[float | None, Memory] = field(default_factory=dict)
    _planned: set[Key] = field(default_factory=set)  # the policy's own commands
    _open: set[UUID] = field(default_factory=set)  # the models with an unfinished one
    _ledger: dict[UUID, Command] = field(default_factory=dict)
    _durations: dict[UUID, timedelta] = field(default_factory=dict)  # of recorded commands
    _unaddressed: set[Holder] = field(default_factory=set)
    _replicas: Replicas = field(default_factory=Replicas)
    _slots: Slots = field(default_factory=Slots)

    def __post_init__(self) -> None:
        self.world = World(self.policy)

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
        """Only the first process begins the story; the others go on with it."""
        if self._began:
            return
        self._began, world = True, self.world
        world.memory = start.memory
        world.sightings = {seen.model_id: seen for seen in start.sightings}
        world.commands = {command.model_id: command for command in start.commands}
        world.spells = {spell.holder: spell for spell in start.spells}
        world.closed = {(model, user): at for model, user, at in start.closed}
        world.standing = {(model, user): stands for model, user, stands in start.standing}
        without = standing_of(Decision.HOLD, Reason.ADDRESS_UNKNOWN)
        self._unaddressed = {holder for holder, stands in world.standing.items() if stands == without}
        self._planned = {_key(command) for command in start.commands}
        self._open = {command.model_id for command in start.commands if command.unfinished}
        self._memories = {_stamp(start.memory): start.memory}

    # --- rps_check --------------------------------------------------------------------------------------------------

    def _tick(self, tick: Tick) -> Moment:
        self._settle(tick.at, tick.commands)
        fleet = self._replicas.of(tick.fleet) if tick.fleet else None
        found = self.world.tick(tick.at, tick.scrapes, fleet)
        self._note_planned()
        self._memories[_stamp(self.world.memory)] = self.world.memory
        while len(self._memories) > MEMORIES:
            del self._memories[next(iter(self._memories))]
        return Moment(tick.at, found, tick.found, fleet)

    def _note_planned(self) -> None:
        for command in self.world.planned:
            self._planned.add(_key(command))
            self._open.add(command.model_id)
        self.world.planned.clear()

    def _settle(self, now: datetime, recorded: dict[UUID, Command]) -> None:
        """Our commands end as the same recorded ones did; the others when they usually do."""
        if recorded is not self._ledger:
            self._ledger = recorded
            for id, command in recorded.items():
                self._note_recorded(id, command)
        for id in list(self._open):
            command = self.world.commands[id]
            same = id in recorded and _key(recorded[id]) == _key(command)
            if command.unfinished and not same and now >= command.planned_at + self._usual_saga():
                ended = command.planned_at + self._usual_saga()
                command = replace(command, state=CommandState.COMPLETED, finished_at=ended)
                self.world.commands[id] = command
                self._replicas.completed(id, command.replicas)
            if not command.unfinished:
                self._open.discard(id)

    def _note_recorded(self, id: UUID, command: Command) -> None:
        if command.state is CommandState.COMPLETED and command.finished_at:
            self._durations[command.id] = command.finished_at - command.planned_at
        ours = self.world.commands.get(id)
        if _key(command) not in self._planned:
            return self._replicas.foreign(id, command.replicas)
        done = command.state is CommandState.COMPLETED
        self._replicas.as_recorded(id, command.replicas if done and ours and _key(ours) == _key(command) else None)
        if ours is not None and _key(ours) == _key(command):
            self.world.commands[id] = replace(command, spell_id=ours.spell_id)
        return None

    def _usual_saga(self) -> timedelta:
        seconds = [duration.total_seconds() for duration in self._durations.values()]
        return timedelta(seconds=median(seconds)) if seconds else DEFAULT_SAGA

    # --- idle_warning and idle_enforce ------------------------------------------------------------------------------

    def _idle(self, run: Idle) -> Moment:
        sweep = next((look for look in run.looks if look.of is None), None)
        for look in run.looks:
            self._follow(look)
        again: dict[Holder, deque[Look]] = {}
        for look in run.looks:
            if look.of is not None:
                again.setdefault(look.of, deque()).append(look)

        def look_again(holder: Holder) -> Survey:
            looks = again.get(holder)
            return self._look(looks.popleft() if looks else sweep or run.looks[0])

        found: list[Finding] = []
        if run.job is Job.IDLE_WARNING and sweep is not None:
            found += self._warn(run, sweep)
        if run.job is Job.IDLE_ENFORCE:
            found += self.world.enforce(self._look(sweep) if sweep else None, look_again, run.at)
        elif sweep is not None and (alone := self._alone(run.at)):
            # Nobody recorded a run of idle_enforce for warnings that were not recorded.
            found += self.world.enforce(self._look(sweep), look_again, run.at, alone)
        self._slots.keep((slot for _, slot in run.cancelled), run.looks[0].bookings, self.world.cuts)
        self._note_planned()
        return Moment(run.at, found, run.found)

    def _warn(self, run: Idle, sweep: Look) -> list[Finding]:
        """Whoever had no address when recorded, and has none still, cannot be warned."""
        for one in run.found:
            if one.user_id is not None:
                holder = (one.model_id, one.user_id)
                (self._unaddressed.add if one.reason is Reason.ADDRESS_UNKNOWN else self._unaddressed.discard)(holder)
        return self.world.warn(self._look(sweep), self._unaddressed, delivers=False)

    def _alone(self, now: datetime) -> set[Holder]:
        """Who has a spell from before that the recorded service had not."""
        spells = self.world.spells.items()
        return {holder for holder, spell in spells if spell.opened_at < now and holder not in self.world.followed}

    def _follow(self, look: Look) -> None:
        """Our spells that were recorded too go on as recorded; the warnings of the others are delivered at once."""
        world = self.world
        world.resumed_at = look.resumed_at
        world.followed = {
            holder
            for holder, spell in world.spells.items()
            if holder in look.spells and look.spells[holder].opened_at == spell.opened_at
        } | {holder for holder in world.followed & world.spells.keys() if holder in look.closed}
        for holder, spell in list(world.spells.items()):
            recorded = look.spells.get(holder)
            if (
                spell.id in world.over
                and holder not in look.spells
                and look.closed.get(holder, spell.opened_at) > spell.opened_at
            ):
                world.end(holder, look.closed[holder])
            elif holder not in world.followed:
                world.delivered(holder, spell.opened_at)
            elif recorded is not None and recorded.delivered_at is not None:
                world.delivered(holder, recorded.delivered_at)
        if not any(spell.state is SpellState.ENFORCING for spell in world.spells.values()):
            world.over.clear()

    def _look(self, look: Look) -> Survey:
        memory = self._memories.get(look.basis, self.world.memory)
        fleet, bookings = self._replicas.of(look.fleet), self._slots.of(look.bookings, self.world.cuts)
        return self.world.look(look.at, look.scrapes, fleet, bookings, memory, look.of)


def _key(command: Command) -> Key:
    return (command.model_id, command.planned_at, command.replicas)


def _stamp(memory: Memory) -> float | None:
    return memory.read_at.timestamp() if memory.read_at else None
