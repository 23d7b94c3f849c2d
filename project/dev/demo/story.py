"""The demo's story: who booked what, what the traffic does, and what happens as a person reads it."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from dev.fake_platform.platform import Platform
from dev.wording import counted

N, Y = 40, 15  # seconds; a deployment has an hour and a quarter of an hour
BUSY, STEADY = "Openai/Gpt-oss-120b", "Mistral/Small-24b"
RETURNED, SHARED, FORGOTTEN = "Google/Medgemma-27b-it", "Sber/GigaChat-Max-V2", "Qwen/Qwen3-32b"
ANN, BEN, CLEO, DAN, EVE = (uuid5(UUID(int=0), name) for name in ("ann", "ben", "cleo", "dan", "eve"))
MODELS = (BUSY, STEADY, RETURNED, SHARED, FORGOTTEN)
NAMES = {ANN: "ann", BEN: "ben", CLEO: "cleo", DAN: "dan", EVE: "eve"}

SETTINGS = {
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "DEBUG",  # ends of ordinary runs are debug lines, and the header shows which replica ran the last job
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
RETURNED_RPS = 0.5  # of ann, after she has come back
TRAFFIC_ENDS_AFTER = 22.0  # seconds of the story
RETURNS_AFTER_WARNING = 4.0  # seconds that ann takes to come back
SHOWN = ("decided", "enforced", "command_ended", "critical", "reading_distrusted")  # log events


@dataclass(frozen=True)
class Happening:
    """Something worth a line: its kind, the model, what happened, and the reason's code if there is one."""

    kind: str
    model: str
    what: str = ""
    why: str = ""


@dataclass
class Facts:
    """What really happened, as the external services and the notificator recorded it."""

    platform: Platform
    events: list[dict[str, Any]] = field(default_factory=list)
    expected_gone: dict[UUID, list[str]] = field(default_factory=dict)
    expected_kept: dict[str, str] = field(default_factory=dict)
    held_back: set[str] = field(default_factory=set)
    exits: dict[str, int] = field(default_factory=dict)

    def stages(self, user: UUID) -> list[str]:
        """The stages of the user's events, in order."""
        return [event["reservation"]["stage"] for event in self.events if event["user"]["id"] == str(user)]

    def event(self, user: UUID, stage: str) -> dict[str, Any]:
        """The reservation in the user's event of that stage; empty if there was none."""
        found = (event["reservation"] for event in self.events if event["user"]["id"] == str(user))
        return next((reservation for reservation in found if reservation["stage"] == stage), {})

    def cancelled(self, user: UUID) -> list[str]:
        """The ids of the slots that the user was told are cancelled."""
        return [slot["slot_id"] for slot in self.event(user, "cancelled").get("cancelled_slots", [])]

    def commands(self, model: str) -> list[int | None]:
        """The replicas that the commands asked for, in order; None is an uninstall."""
        return [command.replicas for command in self.platform.commands if command.model_name == model]

    def gone(self) -> set[str]:
        """The ids of the slots that were really deleted."""
        return {slot.id for deletion in self.platform.deletions for slot in deletion.slots}

    def booked(self) -> set[str]:
        """The ids of the slots that are still booked."""
        return {slot.id for reservation in self.platform.reservations for slot in reservation.slots}

    def runs(self, model: str) -> bool:
        return any(running.name == model for running in self.platform.models)


def begin(platform: Platform) -> Facts:
    """Set up the story: five models, five users, slots around now."""
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
    """What the users do, by the seconds since both replicas are ready and by the events they get."""

    facts: Facts
    done: set[str] = field(default_factory=set)
    warned_at: float | None = None

    def play(self, elapsed: float) -> list[Happening]:
        """Do what is due after `elapsed` seconds of the story; returns what was done."""
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
    """A ReservationNoUse event as the mail its user gets."""
    reservation = event["reservation"]
    slots = len(reservation["cancelled_slots"])
    more = f", {counted(slots, 'slot')} cancelled" if slots else ""
    more += ", model uninstalled" if reservation["uninstalled"] else ""
    return Happening("mail", reservation["model_name"], f"to {event['user']['email']}: {reservation['stage']}{more}")


def logged(line: dict[str, Any]) -> Happening | None:
    """A replica's log line as a happening; None if it is of no interest to a person."""
    event, said, why = line.get("event"), str(line.get("message", "")), str(line.get("reason", ""))
    if event not in SHOWN:
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
