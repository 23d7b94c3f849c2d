"""How the commands of a replay end."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

from limiter.domain.command import Command, CommandState
from limiter.replay.divergence import Replicas
from limiter.replay.simulation import Simulation

DEFAULT_SAGA = timedelta(seconds=30)  # when no command of the recording has ended

Key = tuple[UUID, datetime, int | None]  # what makes two commands the same: model, moment, replicas


@dataclass
class Sagas:
    """Ends the simulation's commands, and lets those take effect that were not recorded."""

    simulation: Simulation
    replicas: Replicas
    _planned: set[Key] = field(default_factory=set)  # the simulation's commands
    _open: set[UUID] = field(default_factory=set)  # the models with an unfinished one
    _ledger: dict[UUID, Command] = field(default_factory=dict)
    _durations: dict[UUID, timedelta] = field(default_factory=dict)  # of recorded commands

    def begin(self, commands: Iterable[Command]) -> None:
        """Go on from the commands that were there when the recording began."""
        for command in commands:
            self._planned.add(_key(command))
            if command.unfinished:
                self._open.add(command.model_id)

    def note_planned(self) -> None:
        """Take over the commands that the simulation has just planned."""
        for command in self.simulation.planned:
            self._planned.add(_key(command))
            self._open.add(command.model_id)
        self.simulation.planned.clear()

    def settle(self, now: datetime, recorded: dict[UUID, Command]) -> None:
        """A replayed command ends as the same recorded one did; any other after the median recorded duration."""
        if recorded is not self._ledger:
            self._ledger = recorded
            for id, command in recorded.items():
                self._note_recorded(id, command)
        for id in list(self._open):
            command = self.simulation.commands[id]
            same = id in recorded and _key(recorded[id]) == _key(command)
            if command.unfinished and not same and now >= command.planned_at + self._usual_saga():
                ended = command.planned_at + self._usual_saga()
                command = replace(command, state=CommandState.COMPLETED, finished_at=ended)
                self.simulation.commands[id] = command
                self.replicas.completed(id, command.wanted)
            if not command.unfinished:
                self._open.discard(id)

    def _note_recorded(self, id: UUID, command: Command) -> None:
        if command.state is CommandState.COMPLETED and command.finished_at:
            self._durations[command.id] = command.finished_at - command.planned_at
        ours = self.simulation.commands.get(id)
        if _key(command) not in self._planned:
            return self.replicas.foreign(id, command.wanted)
        done = command.state is CommandState.COMPLETED
        self.replicas.as_recorded(id, command.wanted if done and ours and _key(ours) == _key(command) else None)
        if ours is not None and _key(ours) == _key(command):
            self.simulation.commands[id] = replace(command, spell_id=ours.spell_id)
        return None

    def _usual_saga(self) -> timedelta:
        seconds = [duration.total_seconds() for duration in self._durations.values()]
        return timedelta(seconds=median(seconds)) if seconds else DEFAULT_SAGA


def _key(command: Command) -> Key:
    return (command.model_id, command.planned_at, command.wanted)
