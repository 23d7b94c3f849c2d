"""Every metric this service exposes, and the alarm."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter, time
from typing import Any

from loguru import logger
from prometheus_client import CollectorRegistry

from limiter.domain.decision import Decision, Reason
from limiter.domain.job import Job
from limiter.domain.usage import Gap, ScrapeProblem
from limiter.telemetry import labels
from limiter.telemetry.fleet import FleetGauges
from limiter.telemetry.metrics import Metrics
from limiter.telemetry.replica import ReplicaMetrics

SAID_AGAIN = 60.0  # seconds: an attempt each second would be a line each second, all night


class Telemetry:
    """The counters and gauges of one replica, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make = Metrics(self.registry)
        self.fleet = FleetGauges(make)
        self.replica = ReplicaMetrics(make)
        self.run_span: Callable[[str, int], AbstractContextManager[None]] = (
            lambda *_: nullcontext()
        )  # the trace of a run
        self._last_criticals: dict[str, tuple[float, str]] = {}
        self._going_on: dict[tuple[str, str], float] = {}  # reason and detail, and when it was last said
        self._criticals = make.counter("critical_errors", "Errors that a person must look at: the alarm.", "reason")
        self._runs = make.counter("job_runs", "Ended runs of each job.", "job", "outcome")
        self._missed = make.counter("job_missed", "Intervals in which no replica ran the job.", "job")
        self._decisions = make.counter("decisions", "Decisions taken, by decision and reason.", "decision", "reason")
        self._requests = make.counter("http_requests", "Calls to each external service, by outcome.", "peer", "outcome")
        self._restarts = make.counter("target_restarts", "Restarts of each Entrypoint process.", "target")
        self._unknown = make.counter(
            "target_unknown_seconds",
            "Seconds whose calls are unknown, by the Entrypoint process that lost them.",
            "target",
        )
        self._refused = make.counter("entries_refused", "Entries of an answer that could not be understood.", "peer")
        self._events = make.counter("events", "Events handed to the broker.", "stage", "outcome")
        self._cancelled_models = make.counter("models_cancelled", "Models whose following slots were cancelled.")
        self._cancelled_slots = make.counter("slots_cancelled", "Slots cancelled.")
        self._slot_hours = make.counter("slot_hours_freed", "Hours of the cancelled slots.")
        self._replica_hours = make.counter(
            "replica_hours_freed", "Hours of the cancelled slots of uninstalled models, times their replicas."
        )
        self._durations = make.histogram("job_duration_seconds", "Seconds that runs take.", labels.RUNS, "job")
        self._latency = make.histogram(
            "http_request_seconds", "Seconds that external services take to answer.", labels.RUNS, "peer"
        )
        self._success = make.gauge("job_last_success_timestamp_seconds", "Unix time of the last good run.", "job")
        self._show_zeros()

    def _show_zeros(self) -> None:
        """Every label set of a closed list is there from the start: a counter that appears with 1 shows no increase."""
        for reason in labels.CRITICALS:
            self._criticals.labels(reason)
        for job in Job:
            self._missed.labels(job)
            for outcome in labels.OUTCOMES:
                self._runs.labels(job, outcome)
        for decision, reasons in (*labels.OF_ACTS, (Decision.WITHDRAW, labels.WITHDRAWN), (Decision.HOLD, Reason)):
            for reason in reasons:
                self._decisions.labels(decision, reason)
        for stage in labels.STAGES:
            for outcome in labels.SENT:
                self._events.labels(stage, outcome)
        for service in labels.PEERS:
            self._refused.labels(service)
            for outcome in ("ok", "rejected", "no_answer", "unreachable"):
                self._requests.labels(service, outcome)

    def critical(self, reason: str, detail: object, **ids: object) -> None:
        """Count and log an error that a person must look at."""
        self._criticals.labels(reason).inc()
        self._last_criticals[reason] = (perf_counter(), str(detail))
        logger.bind(event="critical", reason=reason, **ids).error("{}: {}", reason, detail)

    def goes_on(self, reason: str, detail: object, **ids: object) -> None:
        """The same for what is met again and again: counted and logged anew after `SAID_AGAIN`, or if it changes."""
        now, key = perf_counter(), (reason, str(detail))
        self._going_on = {one: at for one, at in self._going_on.items() if now - at < SAID_AGAIN}
        self._last_criticals[reason] = (now, str(detail))
        if key not in self._going_on:
            self._going_on[key] = now
            self.critical(reason, detail, **ids)

    def is_over(self, reason: str) -> None:
        """What went on has ended: if it comes again, that is told at once."""
        self._going_on = {one: at for one, at in self._going_on.items() if one[0] != reason}

    def last_critical(self, reason: str, within: float) -> str | None:
        """The detail of the last such error, if it is not older than so many seconds."""
        at, detail = self._last_criticals.get(reason, (0.0, None))
        return detail if perf_counter() - at <= within else None

    def reading_problems(self, problems: Iterable[tuple[ScrapeProblem, str]]) -> None:
        """Count and log what was wrong with a reading; a fleet that falls silent is only distrusted, not an alarm."""
        for problem, detail in problems:
            if problem is ScrapeProblem.FLEET_SILENT:
                logger.bind(event="reading_distrusted", reason=str(problem)).info("{}", detail)
            else:
                self.critical(problem, detail)

    def watch_targets(self, targets: Iterable[str]) -> None:
        """Show the restarts of these targets from the start, with 0, and the age of their readings from now on."""
        self.fleet.targets, self.fleet.watched_since = tuple(targets), time()
        for target in self.fleet.targets:
            self._restarts.labels(target)
            self._unknown.labels(target)

    def targets_restarted(self, gaps: Iterable[Gap]) -> None:
        """Count and log the gaps that restarts have left."""
        for gap in gaps:
            self._restarts.labels(gap.target).inc()
            seconds = (gap.until - gap.since).total_seconds()
            self._unknown.labels(gap.target).inc(seconds)
            logger.bind(event="target_restarted", target=gap.target, seconds=seconds).info(
                "{} restarted: {:g} s of its calls are unknown", gap.target, seconds
            )

    def decided(self, decision: Decision, reason: Reason, times: int = 1) -> None:
        self._decisions.labels(decision, reason).inc(times)

    def refused(self, service: str, entries: int) -> None:
        self._refused.labels(service).inc(entries)

    def event_sent(self, stage: str, outcome: str) -> None:
        self._events.labels(stage, outcome).inc()

    def cancelled(self, slots: int, slot_hours: float = 0, replica_hours: float = 0) -> None:
        """Count one model cancelled for its user, with that many slots."""
        self._cancelled_models.inc()
        self._cancelled_slots.inc(slots)
        self._slot_hours.inc(slot_hours)
        self._replica_hours.inc(replica_hours)

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

    def timed(self, service: str) -> AbstractContextManager[Any]:
        """Note how long the external service takes."""
        return self._latency.labels(service).time()
