"""The budget holds whatever happens: failures, sagas that hang, a registry that is late, restarts, others' scaling.

BUDGET_EXAMPLES=20000 python -m pytest -s project/tests/unit/domain/test_budget_always.py
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.domain.audit import DecisionRecord
from limiter.domain.budget import FleetBudget
from limiter.domain.command import CommandKind, CommandState
from limiter.domain.decision import Reason
from limiter.domain.fleet import Fleet, ServedModel
from limiter.replay.simulation import Simulation
from tests.unit.domain.build import SCALING, UNHURRIED, at, page, policy, secs

EXAMPLES = int(os.environ.get("BUDGET_EXAMPLES", "100"))
TICK = 15
COUNTS: Counter[str] = Counter()


class Step(NamedTuple):
    """What happens before one tick: each model's calls per second, how sagas end, and what others do."""

    rates: list[int]
    sagas: list[str]
    scaled: tuple[int, int] | None
    late: bool
    restart: bool


MODELS = 4
TAGS = st.sets(st.sampled_from(["a", "b"]), max_size=2).map(frozenset)
STEPS = st.builds(
    Step,
    rates=st.lists(st.sampled_from([0, 5, 15, 40, 120]), min_size=MODELS, max_size=MODELS),
    sagas=st.lists(st.sampled_from(["end", "hang", "fail"]), min_size=MODELS, max_size=MODELS),
    scaled=st.none() | st.none() | st.tuples(st.integers(0, MODELS - 1), st.integers(0, 6)),
    late=st.booleans(),
    restart=st.sampled_from([False, False, True]),
)


@dataclass
class Platform:
    """The platform: how many replicas each model really has, and what the registry shows of it."""

    budget: FleetBudget
    tags: Sequence[frozenset[str]]
    simulation: Simulation
    replicas: list[int] = field(default_factory=lambda: [1] * MODELS)
    shown: list[int] = field(default_factory=lambda: [1] * MODELS)
    calls: list[float] = field(default_factory=lambda: [0.0] * MODELS)
    booked: frozenset[UUID] = frozenset()
    now: int = 0

    def fleet(self) -> Fleet:
        return Fleet(tuple(ServedModel(UUID(int=n), f"m{n}", self.shown[n], self.tags[n]) for n in range(MODELS)))

    def sagas_end(self, ends: Sequence[str]) -> None:
        for n, end in enumerate(ends):
            command = self.simulation.commands.get(UUID(int=n))
            if command is None or not command.unfinished or end == "hang":
                continue
            state = CommandState.COMPLETED if end == "end" else CommandState.FAILED
            failures = command.failures + 1 if end == "fail" else 0
            if end == "end" and command.replicas is not None:
                self.replicas[n] = command.replicas
            self.simulation.commands[command.model_id] = replace(
                command, state=state, finished_at=at(self.now), failures=failures
            )
            COUNTS[f"sagas that {end}"] += 1

    def asked(self, tag: str) -> int:
        """Replicas that there are or may come to be, in truth."""
        total = 0
        for n in range(MODELS):
            command, drawn = self.simulation.commands.get(UUID(int=n)), tag in self.budget.of(self.tags[n])
            coming = command and command.unfinished and command.kind is CommandKind.SCALE_UP and command.replicas
            total += max(self.replicas[n], coming or 0) if drawn else 0
        return total

    def tick(self, step: Step) -> list[DecisionRecord]:
        self.now += TICK
        shown = list(self.replicas)
        self.sagas_end(step.sagas)
        if step.scaled is not None:
            self.replicas[step.scaled[0]] = shown[step.scaled[0]] = step.scaled[1]
        self.shown = shown if step.late else list(self.replicas)  # what was so a tick ago
        if step.restart:  # what is not in Postgres is lost, and nothing is only in memory
            old = self.simulation
            self.simulation = Simulation(old.policy, old.memory, old.scaling_states, dict(old.commands))
        self.calls = [calls + rate * TICK for calls, rate in zip(self.calls, step.rates, strict=True)]
        read = page(self.now, {f"m{n}": calls for n, calls in enumerate(self.calls)})
        return self.simulation.tick(at(self.now), [read], self.fleet(), self.booked)


@settings(UNHURRIED, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(
    most=st.integers(0, 14),
    by_tag=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 9)),
    tags=st.lists(TAGS, min_size=MODELS, max_size=MODELS),
    booked=st.sets(st.integers(0, MODELS - 1)),
    minimum=st.integers(1, 2),
    steps=st.lists(STEPS, min_size=4, max_size=16),
)
def one_history(
    most: int,
    by_tag: dict[str, int],
    tags: list[frozenset[str]],
    booked: set[int],
    minimum: int,
    steps: list[Step],
) -> None:
    quick = replace(
        SCALING, min_replicas=minimum, burst_factor=2, up_window=secs(30), up_stabilization=secs(0), down_step=0,
        down_window=secs(30), down_stabilization=secs(30),
    )  # fmt: skip
    budget, now = FleetBudget(most, by_tag), frozenset(UUID(int=n) for n in booked)
    platform = Platform(budget, tags, Simulation(policy(quick, budget=budget)), booked=now)
    for step in steps:
        planned = len(platform.simulation.planned) if not step.restart else 0
        records = platform.tick(step)
        ups = [one for one in platform.simulation.planned[planned:] if one.kind is CommandKind.SCALE_UP]
        for tag in {tag for one in ups for tag in budget.of(tags[one.model_id.int])}:
            assert platform.asked(tag) <= budget.limits[tag], f"{tag or 'the fleet'} was given more than there is"
        for one in records:
            COUNTS[f"{one.decision}:{one.reason}"] += 1
            if one.reason is Reason.FLEET_FULL:
                assert float(one.numbers["asked"]) >= float(one.numbers["budget"]), "held although something was left"
    COUNTS["examples"] += 1


def test_what_is_asked_for_never_exceeds_the_budget() -> None:
    one_history()
    print("\n", ", ".join(f"{count} {what}" for what, count in COUNTS.most_common()))
    assert COUNTS["examples"] >= EXAMPLES
    for met in ("hold:fleet_full", "scale_up:overloaded", "scale_up:burst", "scale_down:underused", "sagas that fail"):
        assert COUNTS[met], met
