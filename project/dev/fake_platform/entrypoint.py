"""Entrypoint: the processes through which users call models, each with a metrics page of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
ROUNDING = 1e-6  # calls: near 1.7e9, the difference of two clock readings is a little less than the time between them


@dataclass
class Series:
    """One model's counter in one process; it appears with the model's first call there."""

    born_at: float
    calls: float = 0.0


@dataclass(eq=False)
class Process(Collector):
    """One Entrypoint process; a restart loses every series."""

    started_at: float
    shows_start: bool
    series: dict[str, Series] = field(default_factory=dict)
    scrapes: int = 0

    def count(self, model_name: str, times: float, at: float) -> None:
        """Count calls of a model."""
        self.series.setdefault(model_name, Series(at)).calls += times

    def page(self) -> bytes:
        """The page in the text exposition format 0.0.4."""
        self.scrapes += 1
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

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
        yield CounterMetricFamily("metrics_page_requests", "Requests of this page", value=self.scrapes)


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

    async def metrics(self, request: Request) -> Response:
        """One process's page."""
        place = request.path_params["process"]
        if place >= len(self.processes):
            raise HTTPException(404, "No such process")
        self.accrue(self._clock())
        return Response(self.processes[place].page(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
