"""Entrypoint: the processes through which users call models, each with a metrics page of its own.

A page can be frozen (it repeats itself to the byte), carry an `Age`, or come from one process after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import floor

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

LABELS = ("model_name", "service_name")
SERVICE = "entrypoint"
IN_FLIGHT = "model_requests_in_flight"  # the gauge, once it is set
CPU_OF_A_SCRAPE = 0.01  # seconds, so that the process' CPU time moves with each page
ROUNDING = 1e-6  # calls: near 1.7e9, the difference of two clock readings is a little less than the time between them


@dataclass
class Series:
    """One model's counter in one process; it appears with the model's first call there."""

    born_at: float
    calls: float = 0.0


@dataclass(eq=False)
class Process(Collector):
    """One Entrypoint process; a restart loses every series, and thaws the page."""

    started_at: float
    shows_start: bool
    series: dict[str, Series] = field(default_factory=dict)
    in_flight: dict[str, float] = field(default_factory=dict)
    scrapes: int = 0
    last: bytes = b""
    frozen: bool = False

    def count(self, model_name: str, times: float, at: float) -> None:
        """Count calls of a model."""
        self.series.setdefault(model_name, Series(at)).calls += times

    def page(self) -> bytes:
        """The page in the text exposition format 0.0.4; a frozen one is the last again."""
        if not (self.frozen and self.last):
            self.scrapes += 1
            registry = CollectorRegistry(auto_describe=False)
            registry.register(self)
            self.last = generate_latest(registry)
        return self.last

    def collect(self) -> Iterator[Metric]:
        """The metric family that the limiter reads, among some that it must ignore."""
        yield _gauge("python_info", "Python platform information", {"implementation": "CPython", "major": "3"}, 1)
        if self.shows_start:
            yield _gauge("process_start_time_seconds", "Start time of the process, Unix seconds", {}, self.started_at)
        # generate_latest adds model_calls_created, a family of its own with the same labels, as the real page has it.
        calls = CounterMetricFamily("model_calls", "Calls of each model", labels=LABELS)
        for name, series in self.series.items():
            calls.add_metric((name, SERVICE), series.calls, created=series.born_at)
        yield calls
        if self.in_flight:
            flying = GaugeMetricFamily(IN_FLIGHT, "Requests in flight of each model", labels=LABELS)
            for name, requests in self.in_flight.items():
                flying.add_metric((name, SERVICE), requests)
            yield flying
        yield CounterMetricFamily("process_cpu_seconds", "CPU time", value=round(self.scrapes * CPU_OF_A_SCRAPE, 2))
        scrapes = CounterMetricFamily("promhttp_metric_handler_requests", "Requests of this page", labels=("code",))
        scrapes.add_metric(("200",), self.scrapes)
        yield scrapes


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


class Entrypoints:
    """All processes, and the calls that the set rates add to them over time."""

    def __init__(self, count: int, clock: Callable[[], float], shows_start: bool) -> None:
        """`shows_start` puts process_start_time_seconds on the pages."""
        self._clock = clock
        self.processes = [Process(clock(), shows_start) for _ in range(count)]
        self._rates: dict[str, float] = {}
        self._owed: dict[tuple[str, int], float] = {}
        self._accrued_at = clock()
        self._ages: dict[int, float] = {}
        self._balanced: dict[int, list[int]] = {}

    def mount(self) -> Mount:
        """A page for each process."""
        return Mount("/entrypoint", routes=[Route("/{process:int}/metrics", self.metrics)])

    def call(self, model_name: str, times: float, process: int) -> None:
        """Count calls through one process, now."""
        self.processes[process].count(model_name, times, self._clock())

    def set_rate(self, model_name: str, rps: float) -> None:
        """Call the model `rps` times per second from now on, all processes together."""
        self.accrue(self._clock())
        self._rates[model_name] = rps

    def end_traffic(self, model_name: str) -> None:
        """End the calls of the model, after the last moment that was accrued."""
        self._rates.pop(model_name, None)

    def accrue(self, now: float) -> None:
        """Count the calls since the last time, in equal shares; fractions are carried over."""
        elapsed = max(0.0, now - self._accrued_at)
        self._accrued_at = max(now, self._accrued_at)
        for name, rps in self._rates.items():
            for place, process in enumerate(self.processes):
                owed = self._owed.get((name, place), 0.0) + rps * elapsed / len(self.processes)
                whole = floor(owed + ROUNDING)
                self._owed[name, place] = owed - whole
                if whole:
                    process.count(name, whole, now)

    def restart(self, process: int) -> None:
        """Restart a process: its counters are lost, its start time is now."""
        now = self._clock()
        self.accrue(now)
        self.processes[process] = Process(now, self.processes[process].shows_start)

    def set_in_flight(self, model_name: str, requests: float, process: int) -> None:
        """Show so many requests of the model in flight in one process."""
        self.processes[process].in_flight[model_name] = requests

    def freeze(self, process: int) -> None:
        """Repeat the last page of a process to the byte from now on."""
        self.processes[process].frozen = True

    def thaw(self, process: int) -> None:
        """Let the page of a process move again."""
        self.processes[process].frozen = False

    def set_age(self, process: int, seconds: float | None) -> None:
        """Answer for a process with an `Age` of whole seconds; None: without one."""
        if seconds is None:
            self._ages.pop(process, None)
        else:
            self._ages[process] = seconds

    def balance(self, process: int, others: Iterable[int]) -> None:
        """Answer at the address of a process with its own page and those of the others, in turn; none ends it."""
        turns = [process, *others]
        self._balanced[process] = turns if len(turns) > 1 else []

    async def metrics(self, request: Request) -> Response:
        """One process's page."""
        place = request.path_params["process"]
        if place >= len(self.processes):
            raise HTTPException(404, "No such process")
        self.accrue(self._clock())
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        if place in self._ages:
            headers["Age"] = f"{self._ages[place]:.0f}"
        turns = self._balanced.get(place)
        if turns:
            turns.append(turns.pop(0))
        return Response(self.processes[turns[-1] if turns else place].page(), headers=headers)
