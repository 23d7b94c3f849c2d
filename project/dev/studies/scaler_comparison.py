"""`make compare`: our scaling beside Kubernetes HPA's and Knative's published algorithms, on three shapes of load.

HPA: kubernetes.io, "Horizontal Pod Autoscaling": every 15 s ceil(R x ratio), tolerance 0.1; down to the highest
recommendation of the last 300 s; up by at most 100 % or 4 replicas in 15 s.
Knative: knative.dev, "KPA-specific configuration": every 2 s ceil(rate / target) over a stable window of 60 s, target
utilization 70 %; in panic (6 s window, twice what is ready) only up; up 1000 times, down to half at a time.
Ours: the defaults of the settings, a tick of 15 s, one command at a time, a cooldown after each.

All read the same counter, and a change of replicas takes equally long to take effect for each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from uuid import UUID

from limiter.domain.command import Command, CommandKind, CommandPacing, CommandState
from limiter.domain.decision import Decision
from limiter.domain.fleet import ServedModel
from limiter.domain.scaling import Load, ScalingRule, decide, scaling_state

TARGET = 10.0  # RPS that one replica should carry
MIN, MAX = 1, 12
READY_AFTER = 40  # seconds until a change of the replica count takes effect
LENGTH = 7200  # seconds
START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)

Load1s = list[float]  # calls in each second


def step() -> Load1s:
    """Ten minutes of 8 RPS, an hour of 55, then 8 again."""
    return [55.0 if 600 <= second < 4200 else 8.0 for second in range(LENGTH)]


def ramp() -> Load1s:
    """From 5 RPS to 80 in an hour, and back."""
    return [5 + 75 * (1 - abs(second - LENGTH / 2) / (LENGTH / 2)) for second in range(LENGTH)]


def spikes() -> Load1s:
    """12 RPS, and every ten minutes one minute of 60."""
    return [60.0 if second % 600 >= 540 else 12.0 for second in range(LENGTH)]


@dataclass
class Cluster:
    """The replicas asked for and those that are ready, under a load that a counter shows."""

    load: Load1s
    second: int = 0
    asked: int = 2
    ready: int = 2
    ready_at: int | None = None
    history: list[int] = field(default_factory=list)
    short: int = 0
    replica_seconds: int = 0

    def __post_init__(self) -> None:
        self._counter = [0.0, *accumulate(self.load)]

    def rate(self, window: int) -> float:
        """Calls per second over the last `window` seconds, or over all if there were fewer."""
        since = max(0, self.second - window)
        return (self._counter[self.second] - self._counter[since]) / max(1, self.second - since)

    def ask(self, replicas: int) -> None:
        replicas = min(MAX, max(MIN, replicas))
        if replicas != self.asked:
            self.asked, self.ready_at = replicas, self.second + READY_AFTER

    def pass_second(self) -> None:
        if self.ready_at is not None and self.second >= self.ready_at:
            self.ready, self.ready_at = self.asked, None
        self.short += self.load[self.second] > TARGET * self.ready
        self.replica_seconds += max(self.asked, self.ready)
        self.history.append(self.asked)
        self.second += 1

    def reversals(self) -> int:
        """The number of steps in the opposite direction of the step before."""
        steps = [after - before for before, after in pairwise(self.history) if after != before]
        return sum((before > 0) != (after > 0) for before, after in pairwise(steps))


Scaler = Callable[[Cluster], None]


def hpa() -> Scaler:
    recommended: list[tuple[int, int]] = []

    def tick(cluster: Cluster) -> None:
        if cluster.second % 15:
            return
        ratio = cluster.rate(60) / (TARGET * cluster.asked)
        desired = cluster.asked if abs(ratio - 1) <= 0.1 else math.ceil(cluster.asked * ratio)
        recommended.append((cluster.second, desired))
        calm = max(wanted for at, wanted in recommended if at > cluster.second - 300)
        fastest = max(2 * cluster.asked, cluster.asked + 4)
        cluster.ask(min(desired, fastest) if desired > cluster.asked else min(cluster.asked, calm))

    return tick


def knative() -> Scaler:
    panic_until = -1
    panic_floor = 0

    def tick(cluster: Cluster) -> None:
        nonlocal panic_until, panic_floor
        if cluster.second % 2:
            return
        aim = 0.7 * TARGET
        slowest, fastest = cluster.ready // 2, 1000 * cluster.ready
        stable, panic = (min(fastest, max(slowest, math.ceil(cluster.rate(window) / aim))) for window in (60, 6))
        if panic / cluster.ready >= 2:
            panic_until = cluster.second + 60
        if cluster.second <= panic_until:
            panic_floor = max(panic_floor, panic, cluster.asked)
            cluster.ask(panic_floor)
        else:
            panic_floor = 0
            cluster.ask(stable)

    return tick


def ours() -> Scaler:
    window = timedelta(seconds=1)
    rule = ScalingRule(TARGET, 0.1, 0.7, MIN, MAX, 60 * window, 300 * window, 30 * window, 300 * window)
    pacing = CommandPacing(60 * window, 60 * window, 1800 * window)
    state, last = None, None

    def tick(cluster: Cluster) -> None:
        nonlocal state, last
        if cluster.second % 15:
            return
        now = START + timedelta(seconds=cluster.second)
        if last is not None and last.unfinished and cluster.ready_at is None:
            last = _command(CommandState.COMPLETED, last.planned_at, now)
        state = scaling_state(ServedModel(UUID(int=1), "m", cluster.ready), state, now)
        load = Load(cluster.rate(60), cluster.rate(300), known=True)
        verdict = decide(rule, state, load, pacing.blocks(last, now), now)
        state = verdict.scaling_state
        if verdict.decision is not Decision.HOLD:
            last = _command(CommandState.SUBMITTED, now, None)
            cluster.ask(verdict.replicas)

    return tick


def _command(state: CommandState, planned_at: datetime, finished_at: datetime | None) -> Command:
    kind = CommandKind.SCALE_UP
    return Command(UUID(int=2), UUID(int=1), "m", kind, None, state, planned_at, finished_at=finished_at)


def simulate(load: Load1s, scaler: Scaler) -> Cluster:
    """Run this load under this scaler, second by second."""
    cluster = Cluster(load)
    for _ in load:
        scaler(cluster)
        cluster.pass_second()
    return cluster


def table() -> str:
    """The comparison as a Markdown table."""
    lines = ["| load | scaler | reversals | seconds short | replica-hours |", "|---|---|---:|---:|---:|"]
    for shape in (step, ramp, spikes):
        for name, scaler in (("rps-limiter", ours()), ("HPA", hpa()), ("Knative", knative())):
            cluster = simulate(shape(), scaler)
            cells = (shape.__name__, name, cluster.reversals(), cluster.short, f"{cluster.replica_seconds / 3600:.1f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
