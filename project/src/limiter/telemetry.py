"""Every metric this service exposes, and the set-up of its logs."""

import inspect
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import nan
from time import perf_counter
from typing import TYPE_CHECKING

from loguru import logger
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from limiter.domain.action import Decision, Job, Reason
from limiter.domain.usage import Unknown

if TYPE_CHECKING:
    from loguru import Message, Record

PREFIX = "rps_limiter_"
KINDS = ("scale_up", "scale_down", "uninstall", "cancel_booking")


class Telemetry:
    """The counters and gauges of one replica, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._criticals = self._counter("critical_errors", "Errors a person must look at: the alarm.", "reason")
        self._runs = self._counter("job_runs", "Ended runs of each job.", "job", "outcome")
        self._missed = self._counter("job_missed", "Intervals in which no replica ran the job.", "job")
        self._decisions = self._counter("decisions", "What looks at models came to.", "decision", "reason")
        self._requests = self._counter("http_requests", "Calls to each neighbour.", "peer", "outcome")
        self._refused = self._counter("entries_refused", "Entries of an answer that could not be understood.", "peer")
        self._events = self._counter("events", "Events handed to the broker.", "stage", "outcome")
        self._cancelled_models = self._counter("models_cancelled", "Models whose following slots were cancelled.")
        self._cancelled_slots = self._counter("slots_cancelled", "Slots cancelled.")
        self._durations = self._histogram("job_duration_seconds", "How long runs take.", "job")
        self._latency = self._histogram("http_request_seconds", "How long neighbours take to answer.", "peer")
        self._success = self._gauge("job_last_success_timestamp_seconds", "Unix time of the last good run.", "job")
        self._observed = self._gauge("models_observed", "Running models under observation.")
        self._in_progress = self._gauge("actions_in_progress", "Models in work, by kind of action.", "kind")
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

    def reading_problems(self, problems: Iterable[tuple[Unknown, str]]) -> None:
        """Count and log what was wrong with a reading; a fleet that falls silent is only distrusted, not an alarm."""
        for problem, detail in problems:
            if problem is Unknown.FLEET_SILENT:
                logger.bind(event="reading_distrusted", reason=str(problem)).info("{}", detail)
            else:
                self.critical(problem, detail)

    def decided(self, decision: Decision, reason: Reason, times: int = 1) -> None:
        self._decisions.labels(decision, reason).inc(times)

    def refused(self, peer: str, entries: int) -> None:
        self._refused.labels(peer).inc(entries)

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

    def answered(self, peer: str, outcome: str) -> None:
        self._requests.labels(peer, outcome).inc()

    @contextmanager
    def timed(self, peer: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self._latency.labels(peer).observe(perf_counter() - started)

    def show_fleet(self, observed: float, in_progress: Mapping[str, float], pending: float) -> None:
        """Set the gauges about the whole fleet, as just read from Postgres."""
        self._observed.set(observed)
        for kind in KINDS:
            self._in_progress.labels(kind).set(in_progress.get(kind, 0))
        self._pending.set(pending)

    def hide_fleet(self) -> None:
        """Postgres cannot be read: show no number rather than an old one."""
        self.show_fleet(nan, dict.fromkeys(KINDS, nan), nan)


class _Intercept(logging.Handler):
    """Hands records of the standard library's logging on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        bound = logger.opt(depth=depth, exception=record.exc_info).bind(logger=record.name)
        bound.log(record.levelno if record.levelno not in _LEVELS else record.levelname, "{}", record.getMessage())


_LEVELS = (10, 20, 30, 40, 50)
# These repeat every failed attempt; our own lines say the same once, with what follows from it.
_QUIET = {
    "aiormq": "CRITICAL",
    "aio_pika": "CRITICAL",
    "httpx": "WARNING",
    "httpcore": "WARNING",
    "apscheduler": "ERROR",
}


def _json_sink(message: "Message") -> None:
    record: Record = message.record
    line = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **record["extra"],
    }
    if record["exception"] is not None:
        line["exception"] = "".join(str(message).splitlines(keepends=True)[1:])
    print(json.dumps(line, default=str, ensure_ascii=False), file=sys.stderr, flush=True)


def setup_logging(level: str, style: str) -> None:
    """Send all logs, the libraries' too, to standard error: one JSON object or one line of text each."""
    logger.remove()
    if style == "json":
        # Without diagnose=False a traceback would show the values of variables, secrets among them.
        logger.add(_json_sink, level=level, backtrace=False, diagnose=False)
    else:
        text = "{time:HH:mm:ss.SSS} {level:<7} {message} {extra}"
        logger.add(sys.stderr, level=level, format=text, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_Intercept()], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).handlers = []
    for name, at_least in _QUIET.items():
        logging.getLogger(name).setLevel(at_least)
