"""Every metric this service exposes, and the alarm."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import nan
from time import perf_counter
from typing import TYPE_CHECKING

from loguru import logger
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from limiter.domain.decision import Decision, Reason
from limiter.domain.job import Job
from limiter.domain.usage import Gap, ScrapeProblem

if TYPE_CHECKING:
    pass

PREFIX = "rps_limiter_"
KINDS = ("scale_up", "scale_down", "uninstall", "cancel_booking")


class Telemetry:
    """The counters and gauges of one replica, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._criticals = self._counter("critical_errors", "Errors that a person must look at: the alarm.", "reason")
        self._runs = self._counter("job_runs", "Ended runs of each job.", "job", "outcome")
        self._missed = self._counter("job_missed", "Intervals in which no replica ran the job.", "job")
        self._decisions = self._counter("decisions", "Decisions taken, by decision and reason.", "decision", "reason")
        self._requests = self._counter(
            "http_requests", "Calls to each external service, by outcome.", "peer", "outcome"
        )
        self._restarts = self._counter("target_restarts", "Restarts of each Entrypoint process.", "target")
        self._refused = self._counter("entries_refused", "Entries of an answer that could not be understood.", "peer")
        self._events = self._counter("events", "Events handed to the broker.", "stage", "outcome")
        self._cancelled_models = self._counter("models_cancelled", "Models whose following slots were cancelled.")
        self._cancelled_slots = self._counter("slots_cancelled", "Slots cancelled.")
        self._durations = self._histogram("job_duration_seconds", "Seconds that runs take.", "job")
        self._latency = self._histogram(
            "http_request_seconds", "Seconds that external services take to answer.", "peer"
        )
        self._success = self._gauge("job_last_success_timestamp_seconds", "Unix time of the last good run.", "job")
        self._observed = self._gauge("models_observed", "Running models under observation.")
        self._replicas = self._gauge("fleet_replicas", "Replicas of the running models.")
        self._budget = self._gauge("fleet_budget", "Replicas that may be asked for.", "tag")
        self._full = self._gauge("models_fleet_full", "Models that need replicas which the budget does not grant.")
        self._in_progress = self._gauge("actions_in_progress", "Models with an action in progress, by kind.", "kind")
        self._pending = self._gauge("events_pending", "Events not yet confirmed by the broker.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, registry=self.registry)

    def critical(self, reason: str, detail: object, **ids: object) -> None:
        """Count and log an error that a person must look at."""
        self._criticals.labels(reason).inc()
        logger.bind(event="critical", reason=reason, **ids).error("{}: {}", reason, detail)

    def reading_problems(self, problems: Iterable[tuple[ScrapeProblem, str]]) -> None:
        """Count and log what was wrong with a reading; a fleet that falls silent is only distrusted, not an alarm."""
        for problem, detail in problems:
            if problem is ScrapeProblem.FLEET_SILENT:
                logger.bind(event="reading_distrusted", reason=str(problem)).info("{}", detail)
            else:
                self.critical(problem, detail)

    def watch_targets(self, targets: Iterable[str]) -> None:
        """Show the restarts of these targets from the start, with 0."""
        for target in targets:
            self._restarts.labels(target)

    def targets_restarted(self, gaps: Iterable[Gap]) -> None:
        """Count and log the gaps that restarts have left."""
        for gap in gaps:
            self._restarts.labels(gap.target).inc()
            seconds = (gap.until - gap.since).total_seconds()
            logger.bind(event="target_restarted", target=gap.target, seconds=seconds).info(
                "{} restarted: {:g} s of its calls are unknown", gap.target, seconds
            )

    def decided(self, decision: Decision, reason: Reason, times: int = 1) -> None:
        self._decisions.labels(decision, reason).inc(times)

    def refused(self, service: str, entries: int) -> None:
        self._refused.labels(service).inc(entries)

    def event_sent(self, stage: str, outcome: str) -> None:
        self._events.labels(stage, outcome).inc()

    def cancelled(self, slots: int) -> None:
        self._cancelled_models.inc()
        self._cancelled_slots.inc(slots)

    def missed(self, job: Job, slots: int) -> None:
        self._missed.labels(job).inc(slots)

    def run_ended(self, job: Job, outcome: str, seconds: float, at: float) -> None:
        """Count a run; `at` is its end in Unix seconds."""
        self._runs.labels(job, outcome).inc()
        self._durations.labels(job).observe(seconds)
        if outcome == "completed":
            self._success.labels(job).set(at)

    def answered(self, service: str, outcome: str) -> None:
        self._requests.labels(service, outcome).inc()

    @contextmanager
    def timed(self, service: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self._latency.labels(service).observe(perf_counter() - started)

    def show_budget(self, limits: Mapping[str, int]) -> None:
        """Show the budget of each tag; that of all models is the one without a tag."""
        for tag, most in limits.items():
            self._budget.labels(tag).set(most)

    def show_fleet(
        self, observed: tuple[float, float, float], in_progress: Mapping[str, float], pending: float
    ) -> None:
        """Set the gauges about the whole fleet, as just read from Postgres: models, replicas, models without enough."""
        for gauge, value in zip((self._observed, self._replicas, self._full), observed, strict=True):
            gauge.set(value)
        for kind in KINDS:
            self._in_progress.labels(kind).set(in_progress.get(kind, 0))
        self._pending.set(pending)

    def hide_fleet(self) -> None:
        """Postgres cannot be read: show no number rather than an old one."""
        self.show_fleet((nan, nan, nan), dict.fromkeys(KINDS, nan), nan)
