"""The scalers of the study, each told what a replica may carry; all see the same counter of the same cluster.

HPA: kubernetes.io, "Horizontal Pod Autoscaling": every 15 s ceil(R x ratio), tolerance 0.1; down to the highest
recommendation of the last 300 s; up by at most 100 % or 4 replicas in 15 s.
Knative: knative.dev, "KPA-specific configuration": every 2 s ceil(rate / target) over a stable window of 60 s; in panic
(6 s window, twice what is ready) only up, for 60 s; up 1000 times, down to half at a time.
Oracle: knows the future, and asks for what the next moments need just in time; the limit of what a scaler can do.
rps-limiter: the service's own functions from the page of the counter on, with its defaults.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import ceil
from uuid import UUID

from dev.studies.loads import Calls
from limiter.config.policy import PolicySettings
from limiter.domain.command import CommandKind, CommandState
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.usage import ScrapedPage
from limiter.replay.simulation import Simulation

MIN, MAX = 1, 60  # replicas; no load here needs the maximum
MEAN_OF = 5  # seconds: calls wait so long for a free replica before they count as short of one
START = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
NAME, ID = "m", UUID(int=1)
POLL = 5  # seconds between two looks at a saga


@dataclass
class Cluster:
    """The replicas that are ready and those that will be, under a load; a replica costs from when it is asked for."""

    calls: Calls
    target: float  # calls per second that a replica really carries
    ready_after: int
    second: int = 0
    ready: int = 2
    coming: deque[tuple[int, int]] = field(default_factory=deque)  # when, how many
    calls_short: float = 0.0
    seconds_short: int = 0
    replica_seconds: int = 0
    reversals: int = 0
    direction: int = 0

    def __post_init__(self) -> None:
        self.counter = [0, *accumulate(self.calls)]

    @property
    def asked(self) -> int:
        return self.ready + sum(many for _, many in self.coming)

    def rate(self, window: int) -> float:
        """Calls per second over the last `window` seconds, or over all if there were fewer."""
        since = max(0, self.second - window)
        return (self.counter[self.second] - self.counter[since]) / max(1, self.second - since)

    def ask(self, replicas: int) -> None:
        """More are ready after a time; fewer are so at once, first of those that are not ready yet."""
        change = min(MAX, max(MIN, replicas)) - self.asked
        if not change:
            return
        self.reversals += self.direction * change < 0
        self.direction = change
        if change > 0:
            self.coming.append((self.second + self.ready_after, change))
        while change < 0 and self.coming:
            when, many = self.coming.pop()
            if many > -change:
                self.coming.append((when, many + change))
            change = min(0, change + many)
        self.ready += min(0, change)

    def begin_second(self) -> None:
        while self.coming and self.second >= self.coming[0][0]:
            self.ready += self.coming.popleft()[1]

    def end_second(self) -> None:
        self.replica_seconds += self.asked
        self.second += 1
        short = self.rate(MEAN_OF) - self.target * self.ready
        self.calls_short += max(0.0, short)
        self.seconds_short += short > 0


Scaler = Callable[[Cluster], None]


def hpa(target: float) -> Scaler:
    recommended: deque[tuple[int, int]] = deque()

    def tick(cluster: Cluster) -> None:
        if cluster.second % 15 or not cluster.second:
            return
        ratio = cluster.rate(60) / (target * cluster.asked)
        desired = cluster.asked if abs(ratio - 1) <= 0.1 else ceil(cluster.asked * ratio)
        recommended.append((cluster.second, desired))
        while recommended[0][0] <= cluster.second - 300:
            recommended.popleft()
        calm = max(wanted for _, wanted in recommended)
        fastest = max(2 * cluster.asked, cluster.asked + 4)
        cluster.ask(min(desired, fastest) if desired > cluster.asked else min(cluster.asked, calm))

    return tick


def knative(target: float) -> Scaler:
    panic_until, panic_floor = -1, 0

    def tick(cluster: Cluster) -> None:
        nonlocal panic_until, panic_floor
        if cluster.second % 2 or not cluster.second:
            return
        slowest, fastest = cluster.ready // 2, 1000 * cluster.ready
        stable, panic = (min(fastest, max(slowest, ceil(cluster.rate(window) / target))) for window in (60, 6))
        if panic / cluster.ready >= 2:
            panic_until = cluster.second + 60
        if cluster.second <= panic_until:
            panic_floor = max(panic_floor, panic, cluster.asked)
            cluster.ask(panic_floor)
        else:
            panic_floor = 0
            cluster.ask(stable)

    return tick


def oracle(target: float) -> Scaler:
    plan: list[int] = []

    def tick(cluster: Cluster) -> None:
        if not plan:
            plan.extend(_needed(cluster, target))
        cluster.ask(plan[cluster.second])

    return tick


def _needed(cluster: Cluster, target: float) -> list[int]:
    """The most replicas needed at any moment until a replica asked for now is ready."""
    total, end = cluster.counter, len(cluster.calls)
    means = ((total[second + 1] - total[max(0, second + 1 - MEAN_OF)]) / MEAN_OF for second in range(end))
    needed = [max(MIN, ceil(mean / target)) for mean in means]
    span, highest, most = cluster.ready_after + 1, [0] * end, deque[int]()
    for second in reversed(range(end)):  # the maximum of a sliding window
        while most and needed[most[-1]] <= needed[second]:
            most.pop()
        most.append(second)
        if most[0] >= second + span:
            most.popleft()
        highest[second] = needed[most[0]]
    return highest


@dataclass
class Ours:
    """rps_check on a page with one model, whose commands upwards take as long as a replica needs."""

    settings: PolicySettings
    interval: int
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simulation = Simulation(self.settings.policy())

    def __call__(self, cluster: Cluster) -> None:
        now = START + timedelta(seconds=cluster.second)
        if cluster.second % POLL == 0:
            self._settle(cluster, now)
        if cluster.second % self.interval == 0:
            page = ScrapedPage("e", now, {"m": float(cluster.counter[cluster.second])}, {"m": NAME}, started_at=1.0)
            self.simulation.tick(now, [page], Fleet((ServedModel(ID, NAME, cluster.ready),)))
            for planned in self.simulation.planned:
                self._send(cluster, planned.replicas or 0)
            self.simulation.planned.clear()

    def _send(self, cluster: Cluster, replicas: int) -> None:
        self.asked.append((cluster.second, replicas))
        cluster.ask(replicas)

    def _settle(self, cluster: Cluster, now: datetime) -> None:
        """End the command that has taken effect."""
        command = self.simulation.commands.get(ID)
        if command is None or not command.unfinished or cluster.coming:
            return
        took = (now - command.planned_at).total_seconds()
        if command.kind is CommandKind.SCALE_UP:
            self.simulation.saga_seconds = {NAME: took}
        self.simulation.commands[ID] = replace(command, state=CommandState.COMPLETED, finished_at=now)


def ours(target: float, interval: int = 15, **settings: object) -> Ours:
    """The service with its defaults, but for what a replica may carry and how many there may be."""
    return Ours(
        PolicySettings.model_validate(
            {"scale_target_rps_per_replica": target, "scale_min_replicas": MIN, "scale_max_replicas": MAX} | settings
        ),
        interval,
    )


def simulate(calls: Calls, target: float, ready_after: int, scaler: Scaler) -> Cluster:
    """Run this load under this scaler, second by second."""
    cluster = Cluster(calls, target, ready_after)
    for _ in calls:
        cluster.begin_second()
        scaler(cluster)
        cluster.end_second()
    return cluster
