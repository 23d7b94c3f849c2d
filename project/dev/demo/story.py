"""The demo's story: who booked what, and the settings that make an hour half a minute."""

import time
from uuid import UUID, uuid5

from dev.demo.facts import Facts
from dev.fake_platform.faulty_wire import ArmedFault
from dev.fake_platform.platform import Fault, Platform

N, Y = 40, 15  # seconds; a deployment has an hour and a quarter of an hour
BUSY, STEADY = "Openai/Gpt-oss-120b", "Mistral/Small-24b"
RETURNED, SHARED, FORGOTTEN = "Google/Medgemma-27b-it", "Sber/GigaChat-Max-V2", "Qwen/Qwen3-32b"
KEPT, TAKEN_OVER = "Microsoft/Phi-4", "Meta/Llama-3.3-70b"
MODELS = (BUSY, STEADY, RETURNED, SHARED, FORGOTTEN, KEPT, TAKEN_OVER)
NAMES = {uuid5(UUID(int=0), name): name for name in ("ann", "ben", "cleo", "dan", "eve", "finn", "gus")}
ANN, BEN, CLEO, DAN, EVE, FINN, GUS = NAMES

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
    "UNINSTALL_GUARD_SECONDS": 1200,
}
STEADY_RPS, BUSY_RPS = 4, 36


def book(facts: Facts, user: UUID, model: str, *minutes: tuple[float, float]) -> list[str]:
    """Book slots for a user, in minutes from now; returns their ids."""
    now = int(time.time())
    slots = [(now + int(start * 60), now + int(end * 60)) for start, end in minutes]
    return [slot.id for slot in facts.platform.add_reservation(str(user), NAMES[user], model, slots=slots).slots]


def begin(platform: Platform) -> Facts:
    """Set up the story: seven models, seven users, slots around now."""
    facts = Facts(platform)
    for name in MODELS:
        platform.add_model(name)
        platform.call(name)
    book(facts, EVE, STEADY, (-1, 10), (10, 20))
    book(facts, ANN, RETURNED, (-1, 10), (10, 20))
    _, first, second, later = book(facts, BEN, SHARED, (-1, 10), (10, 20), (20.2, 30), (45, 50))
    (cleos,) = book(facts, CLEO, SHARED, (15, 45))
    _, dans = book(facts, DAN, FORGOTTEN, (-1, 10), (10, 20))
    _, finns = book(facts, FINN, KEPT, (-1, 10), (10, 20))
    _, *guss = book(facts, GUS, TAKEN_OVER, (-1, 10), (10, 20), (20, 30), (30, 40))
    facts.expected_gone = {BEN: [first, second], DAN: [dans], GUS: guss}
    facts.expected_kept = {"ben's later slot": later, "cleo's slot": cleos, "finn's following slot": finns}
    platform.set_rate(STEADY, STEADY_RPS)
    platform.set_rate(BUSY, BUSY_RPS)
    return facts


def hang_in_the_middle(facts: Facts) -> ArmedFault:
    """Let the booking service never answer the first DELETE of gus's second slot; nothing is deleted by it."""
    return facts.platform.fault("booking", Fault.hang(), facts.expected_gone[GUS][1], times=1, method="DELETE")
