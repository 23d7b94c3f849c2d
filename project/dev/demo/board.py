"""What the demo's view shows: the models, the replicas and the latest happenings."""

from collections import deque
from dataclasses import dataclass, field

from dev.demo.happenings import Happening
from dev.demo.story import Y

LAST = 10  # happenings shown


@dataclass
class Line:
    """One model as the view shows it; `idle` in seconds, `wanted` what an unfinished command asks for."""

    name: str
    users: str = ""
    rps: float = 0.0
    replicas: int = 0
    wanted: int | None = None
    idle: float = 0.0
    state: str = "in use"
    last: str = ""
    why: str = ""

    @property
    def runs(self) -> bool:
        return self.replicas > 0


@dataclass
class Board:
    """Everything that is shown; `elapsed` in seconds."""

    elapsed: float = 0.0
    phase: str = ""
    replicas: dict[str, str] = field(default_factory=dict)
    last_job: str = ""
    lines: list[Line] = field(default_factory=list)
    happenings: deque[tuple[float, Happening]] = field(default_factory=lambda: deque(maxlen=LAST))


def state_of(spell: str | None, idle: float, *, booked: bool, runs: bool, kept: bool = False) -> str:
    """The state of a model in a person's words; `spell` is the latest idle spell's state, `idle` in seconds."""
    if not runs:
        return "uninstalled"
    if kept:
        return "kept"
    match spell:
        case "warning_pending" | "warned":
            return "warned"
        case "enforcing":
            return "cancelling"
        case "enforced":
            return "cancelled"
    if not booked:
        return "not booked"
    return "unused" if idle > Y / 2 else "in use"
