"""Hand-built values for the tests of the policy; time is seconds after `START`, and nothing here decides anything."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import settings

from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.command import Command, CommandKind, CommandPacing, CommandState
from limiter.domain.fleet import ScalingState, ServedModel
from limiter.domain.folding import fold
from limiter.domain.idle_rule import IdleRule
from limiter.domain.idle_spell import IdleSpell, SpellState, Step, StepState
from limiter.domain.idleness import Facts
from limiter.domain.policy import Policy
from limiter.domain.reservations import Reservation, Slot, UnbookingMode, User
from limiter.domain.scaling_rule import ScalingRule
from limiter.domain.usage import FailedScrape, Memory, Observation, Scrape, ScrapedPage, ScrapeProblem

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
NAME = "Sber/GigaChat-Max-V2"
ANNA, BORIS = User(UUID(int=101), "anna"), User(UUID(int=102), "boris")

SCALING = ScalingRule(
    target_rps=10,
    tolerance=0.1,
    headroom=0.7,
    min_replicas=1,
    max_replicas=8,
    up_window=timedelta(seconds=60),
    down_window=timedelta(seconds=300),
    up_stabilization=timedelta(seconds=30),
    down_stabilization=timedelta(seconds=300),
)
IDLE = IdleRule(  # N = 3600, Y = 900
    limit=timedelta(seconds=3600),
    lead=timedelta(seconds=900),
    mode=UnbookingMode.IN_ROW,
    row_gap=timedelta(seconds=300),
    cancel_current=False,
    uninstall=False,
    uninstall_guard=timedelta(seconds=1800),
)
UNHURRIED = settings(deadline=None, database=None)  # a busy machine is no failure, and nothing is left on disk
PACING = CommandPacing(timedelta(seconds=60), timedelta(minutes=1), timedelta(minutes=30))


def policy(scaling: ScalingRule = SCALING, idle: IdleRule = IDLE, **more: Any) -> Policy:
    values: dict[str, Any] = {"enforce_per_run": 10, "saga_timeout": timedelta(seconds=900)} | more
    return Policy(scaling, idle, {}, PACING, **{"retention": timedelta(days=7)} | values)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def secs(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def served(number: int = 1, name: str = NAME, replicas: int = 1) -> ServedModel:
    return ServedModel(UUID(int=number), name, replicas)


def remembered(
    replicas: int = 1, overloaded_since: float | None = None, underused_since: float | None = None
) -> ScalingState:
    """What scaling remembers of the model, which has run since START."""
    since = [None if moment is None else at(moment) for moment in (overloaded_since, underused_since)]
    return ScalingState(UUID(int=1), NAME, replicas, START, since[0], since[1])


def command(state: CommandState, finished: float | None = None, failures: int = 0, planned: float = 0) -> Command:
    ended = None if finished is None else at(finished)
    kind = CommandKind.SCALE_UP
    return Command(UUID(int=7), UUID(int=1), NAME, kind, 2, state, at(planned), finished_at=ended, failures=failures)


def slot(start: float, end: float, id: str | None = None, of: str = "r1") -> Slot:
    return Slot(at(start), at(end), id or f"{of}@{start:g}", of)


def reservation(
    *slots: Slot, user: User = ANNA, name: str = NAME, model: int | None = 1, id: str | None = None
) -> Reservation:
    own = id or (slots[0].reservation_id if slots else "r1")
    return Reservation(own, user, name, None if model is None else UUID(int=model), slots)


def booking(
    *row: Slot,
    earlier: Iterable[Slot] = (),
    later: Iterable[Slot] = (),
    current: Slot | None = None,
    nobody: bool = False,
) -> ActiveBooking:
    """Anna's booking; its current slot is the first of the row unless another is given, or `nobody` is."""
    running = None if nobody or not row else current or row[0]
    return ActiveBooking(served(), ANNA, (*earlier, *row, *later), row, running)


def facts(**changes: Any) -> Facts:
    """The model has run and been measured since START, and was never called."""
    return replace(Facts(known=True, first_seen_at=START, measured_since=START, used_at=None), **changes)


def steps(*slots: Slot, state: StepState = StepState.NAMED) -> tuple[Step, ...]:
    """One step for each slot that a warning names."""
    return tuple(Step(one, state) for one in slots)


def spell(delivered: float | None = None, idle_since: float = 0, not_before: float = 0, **changes: Any) -> IdleSpell:
    """Anna's spell, warned if `delivered`; it names no slot unless it is given `steps`."""
    state = SpellState.WARNING_PENDING if delivered is None else SpellState.WARNED
    sent = None if delivered is None else at(delivered)
    return replace(
        IdleSpell(
            id=UUID(int=9),
            model_id=UUID(int=1),
            model_name=NAME,
            user=ANNA,
            state=state,
            idle_since=at(idle_since),
            opened_at=at(idle_since),
            not_before=at(not_before),
            slot=slot(0, HOUR),
            delivered_at=sent,
        ),
        **changes,
    )


def page(now: float, counters: Mapping[str, float], target: str = "a", started: float | None = None) -> ScrapedPage:
    """A good page; a series is named after its model (`m`, or `m#2` for a second one), NaN is unreadable."""
    readable = {series: value for series, value in counters.items() if not math.isnan(value)}
    unreadable = {series: series.partition("#")[0] for series in counters if series not in readable}
    names = {series: series.partition("#")[0] for series in readable}
    began = None if started is None else at(started).timestamp()
    return ScrapedPage(target, at(now), readable, names, unreadable, began)


def failed_scrape(target: str = "a") -> FailedScrape:
    return FailedScrape(target, ScrapeProblem.UNAVAILABLE, "timed out")


@dataclass
class Readings:
    """Folds one tick after the other, as rps_check does; a target that reads None failed."""

    names: frozenset[str] = frozenset({"m"})
    window: timedelta = timedelta(seconds=300)
    memory: Memory = field(default_factory=Memory)

    def scraped(self, now: float, *scrapes: Scrape) -> Observation:
        observation = fold(self.memory, scrapes, self.names, at(now), self.window)
        self.memory = observation.memory
        return observation

    def tick(self, now: float, started: float | None = None, **targets: Mapping[str, float] | None) -> Observation:
        scrapes = (
            failed_scrape(target) if counters is None else page(now, counters, target, started)
            for target, counters in targets.items()
        )
        return self.scraped(now, *scrapes)

    def between_ticks(self, now: float, **targets: Mapping[str, float]) -> Observation:
        """A reading between two ticks, as the idle jobs take it; its memory is thrown away."""
        scrapes = [page(now, counters, target, None) for target, counters in targets.items()]
        return fold(self.memory, scrapes, self.names, at(now), self.window, between_ticks=True)

    def used_at(self, name: str = "m") -> datetime | None:
        used = self.memory.usage.get(name)
        return used.last_used_at if used else None

    def calls(self, name: str = "m") -> float:
        used = self.memory.usage.get(name)
        return sum(sample.calls for sample in used.samples) if used else 0.0
