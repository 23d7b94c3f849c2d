"""A day of a small fleet, from 10:00 to 10:00: who calls, who books, what breaks; `docs/day.jsonl.gz` recorded it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import pi, sin
from uuid import UUID

from dev.fake_platform.platform import Fault, Platform, ServedModel
from tests.conftest import START

ANN, BEN, CLEO, DAN = (str(UUID(int=number)) for number in (1, 2, 3, 4))
OFFICE, BURSTY, SHARED = "Sber/GigaChat-Max-V2", "Openai/Gpt-oss-120b", "Meta/Llama-4-Scout"
LUNCH, FORGOTTEN, NIGHT = "Google/Medgemma-27b-it", "Qwen/Qwen3-32b", "Mistral/Large-3"

SETTINGS = {
    "RPS_CHECK_INTERVAL_SECONDS": 60,
    "SCALE_UP_WINDOW_SECONDS": 120,
    "SCALE_UP_STABILIZATION_SECONDS": 60,
    "SCALE_COOLDOWN_SECONDS": 120,
    "UNINSTALL_ON_IDLE": "true",
    "IDLE_ENFORCE_MAX_PER_RUN": 1,
    "POLICY_OVERRIDES": f'{{"{BURSTY}": {{"max_replicas": 4, "exempt": false}}}}',
}


@dataclass
class Day:
    """Plays the users and the accidents of one day to the stand-in platform."""

    platform: Platform

    def begin(self) -> None:
        add = self.platform.add_model
        self.models: dict[str, ServedModel] = {name: add(name) for name in (OFFICE, BURSTY, LUNCH, FORGOTTEN, NIGHT)}
        add(SHARED)
        add(SHARED)
        for name in (OFFICE, BURSTY, LUNCH, FORGOTTEN, SHARED):
            self.platform.call(name)
        self._book(ANN, LUNCH, 0, 3, 5, 7, 9)
        self._book(BEN, SHARED, -1, 2, 4, 8)
        self._book(CLEO, SHARED, 0, 6, 12)
        self._book(DAN, FORGOTTEN, 0, 2, 4, 6, 8)
        self._book(DAN, FORGOTTEN, 22, 23, 24)
        self._book(BEN, NIGHT, 9, 13, 15, 17)

    def _book(self, user: str, name: str, *hours: int) -> None:
        slots = [(START + timedelta(hours=a), START + timedelta(hours=b)) for a, b in pairwise(hours)]
        self.platform.add_reservation(user, f"user{user[-1]}", name, slots=slots)

    def minute(self, minute: int) -> None:
        """What happens in this minute after 10:00."""
        if minute % 10 == 0:
            self.platform.set_rate(OFFICE, office(START + timedelta(minutes=minute)))
        if minute in RATES:
            for name, rate in RATES[minute]:
                self.platform.set_rate(name, rate)
        if minute in ACCIDENTS:
            ACCIDENTS[minute](self.platform)


def office(now: datetime) -> float:
    """Calls per second of a model that people use at work."""
    hour = now.astimezone(UTC).hour + now.minute / 60
    return 0.2 + (55 * sin(pi * (hour - 8) / 11) ** 2 if 8 <= hour <= 19 else 0.0)


RATES: dict[int, list[tuple[str, float]]] = {
    0: [(LUNCH, 3.0), (FORGOTTEN, 2.0), (SHARED, 4.0)],
    20: [(FORGOTTEN, 0.0)],  # and then forgotten
    90: [(LUNCH, 0.0)],  # lunch, and a long one
    140: [(LUNCH, 2.0)],  # back, after the warning
    100: [(BURSTY, 80.0)],
    115: [(BURSTY, 0.5)],
    300: [(BURSTY, 30.0)],
    330: [(BURSTY, 0.0)],
    150: [(SHARED, 0.0)],
    400: [(LUNCH, 0.0)],
}
ACCIDENTS: dict[int, Callable[[Platform], object]] = {
    45: lambda platform: platform.restart_entrypoint(0),
    70: lambda platform: platform.fault("entrypoint", Fault.status(503)),
    78: lambda platform: platform.clear_faults("entrypoint"),
    105: lambda platform: platform.next_saga("failed"),
    160: lambda platform: platform.fault("booking", Fault.status(500)),
    171: lambda platform: platform.clear_faults("booking"),
    205: lambda platform: platform.fault("registry", Fault.status(500)),
    208: lambda platform: platform.clear_faults("registry"),
    500: lambda platform: platform.restart_entrypoint(1),
}
