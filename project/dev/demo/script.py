"""What the users do in the demo, by the seconds of the story and by the mails they get."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from dev.demo.facts import Facts
from dev.demo.happenings import Happening
from dev.demo.story import ANN, BEN, BUSY, BUSY_RPS, FINN, KEPT, NAMES, RETURNED, SHARED, book

Ask = Callable[[dict[str, str]], object]  # sends a control message

TRAFFIC_ENDS_AFTER = 22.0  # seconds of the story
RETURNS_AFTER_WARNING = 4.0  # seconds that ann takes to come back
ACTS_AFTER_MAIL = 3.0  # seconds that the others take
RETURNED_RPS = 0.5  # of ann and ben, after they have come back
KEPT_FOR = timedelta(minutes=10)


@dataclass
class Script:
    """Plays each user's part once; `ask` sends a control message."""

    facts: Facts
    ask: Ask
    done: set[str] = field(default_factory=set)
    read_at: dict[tuple[UUID, str], float] = field(default_factory=dict)

    def play(self, elapsed: float) -> list[Happening]:
        """Do what is due after `elapsed` seconds of the story; returns what was done."""
        for user in NAMES:
            for stage in self.facts.stages(user):
                self.read_at.setdefault((user, stage), elapsed)
        due = {
            "traffic ends": elapsed > TRAFFIC_ENDS_AFTER,
            "ann returns": self._read(ANN, "warning", elapsed, RETURNS_AFTER_WARNING),
            "ben books on": self._read(BEN, "warning", elapsed, ACTS_AFTER_MAIL),
            "ben returns": self._read(BEN, "cancelled", elapsed, ACTS_AFTER_MAIL),
            "finn keeps": self._read(FINN, "warning", elapsed, ACTS_AFTER_MAIL),
        }
        happened = []
        for name, is_due in due.items():
            if is_due and name not in self.done:
                self.done.add(name)
                happened.append(PARTS[name](self))
        return happened

    def _read(self, user: UUID, stage: str, elapsed: float, after: float) -> bool:
        read_at = self.read_at.get((user, stage))
        return read_at is not None and elapsed > read_at + after

    def traffic_ends(self) -> Happening:
        self.facts.platform.set_rate(BUSY, 0)
        return Happening("users", BUSY, f"go home: {BUSY_RPS} -> 0 RPS")

    def ann_returns(self) -> Happening:
        self._call(RETURNED)
        return Happening("users", RETURNED, "ann reads her mail and calls the model")

    def ben_books_on(self) -> Happening:
        """One slot more, right after those that the warning names."""
        (self.facts.expected_kept["the slot ben booked after the warning"],) = book(self.facts, BEN, SHARED, (30, 40))
        return Happening("users", SHARED, "ben books one more slot, and calls nothing")

    def ben_returns(self) -> Happening:
        self._call(SHARED)
        return Happening("users", SHARED, "ben reads what he lost and calls the model")

    def finn_keeps(self) -> Happening:
        until = (datetime.now(UTC) + KEPT_FOR).isoformat(timespec="seconds")
        request = {"command": "keep", "model": KEPT, "user_id": str(FINN), "by": "finn", "reason": "a training day"}
        self.ask(request | {"until": until})
        return Happening("users", KEPT, "finn asks to keep it (control message keep)")

    def _call(self, model: str) -> None:
        self.facts.platform.call(model)
        self.facts.platform.set_rate(model, RETURNED_RPS)


PARTS: dict[str, Callable[[Script], Happening]] = {
    "traffic ends": Script.traffic_ends,
    "ann returns": Script.ann_returns,
    "ben books on": Script.ben_books_on,
    "ben returns": Script.ben_returns,
    "finn keeps": Script.finn_keeps,
}
