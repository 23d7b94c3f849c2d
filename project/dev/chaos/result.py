"""The result of the fault suite, and how it is printed."""

from collections import Counter
from dataclasses import dataclass, field

from dev.wording import counted


@dataclass
class Result:
    """The result of one seed, or of several; times in seconds."""

    problems: list[str] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    after_kill: list[float] = field(default_factory=list)
    after_freeze: list[float] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """Add the result of another seed."""
        self.problems += other.problems
        self.injected.update(other.injected)
        self.figures.update(other.figures)
        self.after_kill += other.after_kill
        self.after_freeze += other.after_freeze

    def show(self, what: str) -> None:
        """Print it under the heading `what`."""
        faults = ", ".join(f"{name}: {count}" for name, count in sorted(self.injected.items()))
        print(f"{what}: {counted(self.injected.total(), 'fault')} ({faults})")
        print("  " + ", ".join(f"{name}: {count}" for name, count in self.figures.items()))
        if self.after_kill:
            kills, freezes = (
                ", ".join(f"{pause:.2f}" for pause in found) for found in (self.after_kill, self.after_freeze)
            )
            print(f"  next run of the job after kill -9 of its replica: {kills} s; after it froze: {freezes} s")
        for problem in self.problems:
            print(f"  BROKEN: {problem}")
        print(f"  {counted(len(self.problems), 'problem') if self.problems else 'no invariant broken'}", flush=True)
