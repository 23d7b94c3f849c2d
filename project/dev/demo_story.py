"""The demo's story: who booked what, what the traffic does, and what must have happened in the end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from dev.platform import Platform

N, Y = 40, 15  # seconds; in a deployment these are an hour and a quarter of one
BUSY, STEADY = "Openai/Gpt-oss-120b", "Mistral/Small-24b"
RETURNED, SHARED, FORGOTTEN = "Google/Medgemma-27b-it", "Sber/GigaChat-Max-V2", "Qwen/Qwen3-32b"
ANN, BEN, CLEO, DAN, EVE = (uuid5(UUID(int=0), name) for name in ("ann", "ben", "cleo", "dan", "eve"))
MODELS = (BUSY, STEADY, RETURNED, SHARED, FORGOTTEN)
NAMES = {ANN: "ann", BEN: "ben", CLEO: "cleo", DAN: "dan", EVE: "eve"}

SETTINGS = {
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "DEBUG",  # the ends of ordinary runs are debug lines, and the header shows who ran the last job
    "RPS_CHECK_INTERVAL_SECONDS": 1,
    "IDLE_WARNING_INTERVAL_SECONDS": 2,
    "IDLE_ENFORCE_INTERVAL_SECONDS": 2,
    "SAGA_POLL_INTERVAL_SECONDS": 1,
    "EVENT_DISPATCH_INTERVAL_SECONDS": 0.5,
    "SCALE_UP_WINDOW_SECONDS": 5,
    "SCALE_DOWN_WINDOW_SECONDS": 8,
    "SCALE_UP_STABILIZATION_SECONDS": 2,
    "SCALE_DOWN_STABILIZATION_SECONDS": 4,
    "SCALE_COOLDOWN_SECONDS": 2,
    "IDLE_LIMIT_SECONDS": N,
    "IDLE_WARNING_LEAD_SECONDS": Y,
    "UNBOOKING_ROW_GAP_SECONDS": 30,
    "UNINSTALL_ON_IDLE": "true",
    "UNINSTALL_GUARD_SECONDS": 3600,
}
STEADY_RPS = 4
RETURNED_RPS = 0.5  # ann keeps calling once she is back
TRAFFIC_ENDS_AFTER = 22.0  # seconds of the story
RETURNS_AFTER_WARNING = 4.0  # seconds that ann takes to come back
TOLD = ("decided", "enforced", "command_ended", "critical", "reading_distrusted")  # log events that are happenings


@dataclass(frozen=True)
class Happening:
    """Something worth a line: what kind of thing, to which model, and the reason's code if there is one."""

    kind: str
    model: str
    what: str = ""
    why: str = ""


@dataclass
class Facts:
    """What really happened, as the neighbours saw it and the notifier heard it."""

    platform: Platform
    events: list[dict[str, Any]] = field(default_factory=list)
    expected_gone: dict[UUID, list[str]] = field(default_factory=dict)
    expected_kept: dict[str, str] = field(default_factory=dict)
    held_back: set[str] = field(default_factory=set)
    exits: dict[str, int] = field(default_factory=dict)

    def stages(self, user: UUID) -> list[str]:
        """What the user was told, in order."""
        return [event["reservation"]["stage"] for event in self.events if event["user"]["id"] == str(user)]

    def told(self, user: UUID, stage: str) -> dict[str, Any]:
        """The user's event of that stage; empty if there was none."""
        found = (event["reservation"] for event in self.events if event["user"]["id"] == str(user))
        return next((told for told in found if told["stage"] == stage), {})

    def cancelled(self, user: UUID) -> list[str]:
        """The slots that the user was told are cancelled."""
        return [slot["slot_id"] for slot in self.told(user, "cancelled").get("cancelled_slots", [])]

    def commands(self, model: str) -> list[int | None]:
        """The replicas asked for, in order; None is an uninstall."""
        return [command.replicas for command in self.platform.commands if command.model_name == model]

    def gone(self) -> set[str]:
        """The slots that were really deleted."""
        return {slot.id for deletion in self.platform.deletions for slot in deletion.slots}

    def booked(self) -> set[str]:
        """The slots that are still booked."""
        return {slot.id for reservation in self.platform.reservations for slot in reservation.slots}

    def runs(self, model: str) -> bool:
        return any(running.name == model for running in self.platform.models)


@dataclass(frozen=True)
class Expectation:
    """One thing that must have happened, and how it is seen."""

    title: str
    holds: Callable[[Facts], bool]
    seen: Callable[[Facts], object]


EXPECTATIONS = (
    Expectation(
        f"36 RPS: {BUSY} goes up to 3, then 4; when the load ends, down to 1 one step at a time",
        lambda facts: facts.commands(BUSY) == [3, 4, 3, 2, 1],
        lambda facts: "commands " + ", ".join(str(replicas) for replicas in facts.commands(BUSY)),
    ),
    Expectation(
        f"steady use: {STEADY} is left alone",
        lambda facts: not facts.commands(STEADY) and not facts.stages(EVE),
        lambda facts: f"{len(facts.commands(STEADY))} commands, {len(facts.stages(EVE))} events",
    ),
    Expectation(
        "ann is warned, comes back in time, and hears that the warning is withdrawn",
        lambda facts: facts.stages(ANN) == ["warning", "withdrawn"],
        lambda facts: ", ".join(facts.stages(ANN)),
    ),
    Expectation(
        "ben is warned, then loses exactly the unbroken row of his following slots (IN_ROW)",
        lambda facts: facts.stages(BEN) == ["warning", "cancelled"]
        and facts.cancelled(BEN) == facts.expected_gone[BEN]
        and set(facts.expected_gone[BEN]) <= facts.gone(),
        lambda facts: f"{', '.join(facts.stages(BEN))}; {len(facts.cancelled(BEN))} slots",
    ),
    Expectation(
        "cleo's slot and ben's later slot stay booked",
        lambda facts: set(facts.expected_kept.values()) <= facts.booked(),
        lambda facts: ", ".join(name for name, slot in facts.expected_kept.items() if slot in facts.booked()),
    ),
    Expectation(
        f"{SHARED} stays installed, because cleo's slot starts soon (booked_soon)",
        lambda facts: facts.told(BEN, "cancelled").get("uninstalled") is False
        and facts.runs(SHARED)
        and "booked_soon" in facts.held_back,
        lambda facts: f"{'running' if facts.runs(SHARED) else 'gone'}; {', '.join(sorted(facts.held_back))}",
    ),
    Expectation(
        f"dan's following slot is cancelled and {FORGOTTEN} uninstalled, and he is told so",
        lambda facts: facts.told(DAN, "cancelled").get("uninstalled") is True
        and facts.cancelled(DAN) == facts.expected_gone[DAN]
        and facts.commands(FORGOTTEN) == [None]
        and not facts.runs(FORGOTTEN),
        lambda facts: f"{', '.join(facts.stages(DAN))}; {'running' if facts.runs(FORGOTTEN) else 'uninstalled'}",
    ),
    Expectation(
        "nobody else lost a slot, and no model got a command while another was unfinished",
        lambda facts: facts.gone() <= {slot for slots in facts.expected_gone.values() for slot in slots}
        and not facts.platform.violations,
        lambda facts: f"{len(facts.gone())} slots deleted, {len(facts.platform.violations)} violations",
    ),
)
CLEAN_STOP = Expectation(
    "both replicas stop cleanly when told to (exit code 0)",
    lambda facts: len(facts.exits) == 2 and set(facts.exits.values()) == {0},
    lambda facts: ", ".join(f"{name} {code}" for name, code in facts.exits.items()),
)


def begin(platform: Platform) -> Facts:
    """Set the stage: five models, five users, slots around now."""
    facts = Facts(platform)
    for name in MODELS:
        platform.add_model(name)
        platform.call(name)
    now = int(time.time())

    def book(user: UUID, model: str, *minutes: tuple[float, float]) -> list[str]:
        slots = [(now + int(start * 60), now + int(end * 60)) for start, end in minutes]
        return [slot.id for slot in platform.add_reservation(str(user), NAMES[user], model, slots=slots).slots]

    book(EVE, STEADY, (-1, 10), (10, 20))
    book(ANN, RETURNED, (-1, 10), (10, 20))
    _, first, second, later = book(BEN, SHARED, (-1, 10), (10, 20), (20.2, 30), (45, 50))
    (cleos,) = book(CLEO, SHARED, (30, 45))
    _, dans = book(DAN, FORGOTTEN, (-1, 10), (10, 20))
    facts.expected_gone = {BEN: [first, second], DAN: [dans]}
    facts.expected_kept = {"ben's later slot": later, "cleo's slot": cleos}
    platform.set_rate(STEADY, STEADY_RPS)
    platform.set_rate(BUSY, 36)
    return facts


@dataclass
class Script:
    """The part that the users play, by the story's clock and by what they hear."""

    facts: Facts
    done: set[str] = field(default_factory=set)
    warned_at: float | None = None

    def play(self, elapsed: float) -> list[Happening]:
        """Do what is due after `elapsed` seconds; returns what was done."""
        happened = []
        if self.warned_at is None and "warning" in self.facts.stages(ANN):
            self.warned_at = elapsed
        if elapsed > TRAFFIC_ENDS_AFTER and self._once("traffic ends"):
            self.facts.platform.set_rate(BUSY, 0)
            happened.append(Happening("users", BUSY, "go home: 36 -> 0 RPS"))
        back_at = None if self.warned_at is None else self.warned_at + RETURNS_AFTER_WARNING
        if back_at is not None and elapsed > back_at and self._once("ann returns"):
            self.facts.platform.call(RETURNED)
            self.facts.platform.set_rate(RETURNED, RETURNED_RPS)
            happened.append(Happening("users", RETURNED, "ann reads her mail and calls the model"))
        return happened

    def _once(self, what: str) -> bool:
        new = what not in self.done
        self.done.add(what)
        return new


def mail(event: dict[str, Any]) -> Happening:
    """An event as its reader gets it."""
    told = event["reservation"]
    more = f", {len(told['cancelled_slots'])} slots cancelled" if told["cancelled_slots"] else ""
    more += ", model uninstalled" if told["uninstalled"] else ""
    return Happening("mail", told["model_name"], f"to {event['user']['email']}: {told['stage']}{more}")


def logged(line: dict[str, Any]) -> Happening | None:
    """A replica's log line as a happening; None if it tells of nothing that people wait for."""
    event, said, why = line.get("event"), str(line.get("message", "")), str(line.get("reason", ""))
    if event not in TOLD:
        return None
    model = line.get("model") or next((name for name in MODELS if name in said), "all models")
    said = said.replace(f" of {model}", "")
    match event:
        case "command_ended":
            return Happening("saga", model, f"{line.get('kind')} {line.get('state')}")
        case "enforced":
            return Happening("cancelled", model, said, why)
        case "decided" if line.get("decision") == "hold":
            return None
        case "decided":
            _, _, what = said.partition(f"{model}: ")
            return Happening(str(line.get("decision")), model, what, why)
    return Happening("critical" if event == "critical" else "distrust", model, said, why)
