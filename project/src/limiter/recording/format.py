"""The format of a recording: one JSON line per run, appended to a file that replays read.

Any number of replicas may append to one file: a line is one write. Each line carries only what changed since the last
line of the same process (`by`), whose first line carries everything, so a process that comes or goes breaks nothing.
Lines of one process are numbered (`n`), so a lost one is noticed. Where a machine went down in the middle of a line,
the next process begins on one of its own, and the part of a line is left out.

Version 2 has other names than version 1 for what scaling remembers; in version 3 every closing of a warning is a
withdrawal, and spells have steps; version 4 has the usual times of sagas, and the settings that scale ahead
(`upgraded`). A tick has the models that are booked where the budget was short, and a model its tags that have one. A
page has how it was read, which is not known of those that were recorded before that was remembered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import Command
from limiter.domain.fleet import ScalingState
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.keep import Keep
from limiter.domain.snapshot import Snapshot
from limiter.domain.usage import Memory

VERSION = 4
# What scaling did before version 4, which knew neither bursts nor what is ahead, nor a bound of one run.
WITHOUT_AHEAD = {
    "scale_burst_factor": 0,
    "scale_lead": False,
    "scale_down_step": 1,
    "scale_commands_per_run": 100_000,
}
SCALING_NAMES = {"up_since": "overloaded_since", "down_since": "underused_since"}  # version 1 -> now
RECORDS, COMMAND, SPELL = TypeAdapter(list[DecisionRecord]), TypeAdapter(Command), TypeAdapter(IdleSpell)
KEEPS = TypeAdapter(list[Keep])


@dataclass(frozen=True, slots=True)
class Start:
    """What was remembered when a file begins; a replay goes on from there."""

    memory: Memory
    scaling_states: list[ScalingState]
    commands: list[Command]
    spells: list[IdleSpell]
    closed: list[tuple[UUID, UUID, datetime]]
    standing: list[tuple[UUID, UUID, str]]


START = TypeAdapter(Start)


def start_of(snapshot: Snapshot) -> Start:
    """What was remembered when an idle job read this."""
    prior = snapshot.prior
    closed = [(*key, at) for key, at in prior.closed.items()]
    standing = [(*key, stands) for key, stands in prior.standing.items()]
    return Start(
        snapshot.remembered, list(prior.scaling_states.values()), [], list(prior.spells.values()), closed, standing
    )


def plain(memory: Memory) -> Memory:
    """The same with dictionaries in place of columns, which pydantic cannot write."""
    targets = {
        name: replace(target, counters=dict(target.counters), names=dict(target.names))
        for name, target in memory.targets.items()
    }
    return replace(memory, targets=targets)


def upgraded(line: dict[str, Any]) -> dict[str, Any]:
    """A line of this version, from one of an earlier; raises ValueError for a version that is not known."""
    if line["v"] == VERSION:
        return line
    if line["v"] not in (1, 2, 3):
        raise ValueError(f"version {line['v']}: only versions 1 to {VERSION} can be read")
    if "found" in line:
        line = line | {"found": [_without_expiry(record) for record in line["found"]]}
    if line["kind"] == "tick":
        line = line | {"sagas": {"all": {}}}
    if line["kind"] == "start":
        line = line | {"settings": WITHOUT_AHEAD | line["settings"]}
    if line["kind"] == "start" and line["v"] == 1:
        state = line["state"]
        states = [_renamed(one, SCALING_NAMES) for one in state["sightings"]]
        line = line | {"state": _renamed(state, {"sightings": "scaling_states"}) | {"scaling_states": states}}
    return line


def _without_expiry(record: Mapping[str, Any]) -> dict[str, Any]:
    return dict(record) | ({"decision": "withdraw"} if record["decision"] == "expire" else {})


def _renamed(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): item for name, item in value.items()}


class Deltas:
    """What changed in each of several mappings since it was last written; reads back what it wrote."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}

    def encode(self, thing: str, value: dict[str, Any]) -> dict[str, Any]:
        last = self._last.get(thing)
        self._last[thing] = value
        if last is None:
            return {"all": value}
        changed = {key: item for key, item in value.items() if key not in last or last[key] != item}
        gone = [key for key in last if key not in value]
        return ({"set": changed} if changed else {}) | ({"gone": gone} if gone else {})

    def decode(self, thing: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The whole mapping, the same object if nothing changed; raises KeyError if its beginning is missing."""
        if "all" in fields:
            self._last[thing] = dict(fields["all"])
        elif fields:
            kept = self._last[thing] | fields.get("set", {})
            for key in fields.get("gone", ()):
                kept.pop(key, None)
            self._last[thing] = kept
        return self._last[thing]
