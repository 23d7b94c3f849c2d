"""The gauges about the whole fleet, which every replica reads from Postgres, so that all tell the same."""

from collections.abc import Iterable, Mapping
from math import nan

from limiter.domain.command import UNFINISHED
from limiter.domain.fleet_numbers import FleetNumbers, ModelNumbers
from limiter.domain.idle_spell import OPEN_STATES
from limiter.domain.job import Job
from limiter.telemetry.labels import KINDS
from limiter.telemetry.metrics import Metrics


class FleetGauges:
    """Models, commands, spells, events, jobs and readings as they stand."""

    def __init__(self, make: Metrics) -> None:
        self.targets: tuple[str, ...] = ()
        self.watched_since = 0.0  # Unix time
        self._observed = make.gauge("models_observed", "Running models under observation.")
        self._replicas = make.gauge("fleet_replicas", "Replicas of the running models.")
        self._budget = make.gauge(
            "fleet_budget", "Replicas that may be asked for, by tag; without one, of all models.", "tag"
        )
        self._full = make.gauge("models_fleet_full", "Models that need replicas which the budget does not grant.")
        self._in_progress = make.gauge("actions_in_progress", "Models with an action in progress, by kind.", "kind")
        self._pending = make.gauge("events_pending", "Events not yet confirmed by the broker, quiet hours apart.")
        self._oldest_event = make.gauge(
            "outbox_oldest_age_seconds", "Seconds since the oldest event not yet confirmed."
        )
        self._next_deadline = make.gauge("next_deadline_timestamp_seconds", "Unix time of the next cancelling.")
        self._commands = make.gauge("commands", "Unfinished commands, by state.", "state")
        self._spells = make.gauge("spells", "Open idle spells, by state.", "state")
        self._paused = make.gauge("job_paused", "1 while the job is paused.", "job")
        self._reading_age = make.gauge(
            "reading_age_seconds", "Seconds since each page was read well; if it never was, since the start.", "target"
        )
        self._flapping = make.gauge("models_flapping", "Models scaled up and down twice each within an hour.")
        self._dead = make.gauge(
            "dead_letters", "Messages that were not understood, by the queue they came from.", "queue"
        )
        self._model_rps = make.gauge("model_rps", "Calls per second, with METRICS_PER_MODEL.", "model")
        self._model_replicas = make.gauge("model_replicas", "Replicas, with METRICS_PER_MODEL.", "model")
        self._model_idle = make.gauge(
            "model_idle_seconds", "Seconds since the last call, with METRICS_PER_MODEL.", "model"
        )
        self._read_at = make.gauge("fleet_read_timestamp_seconds", "Unix time of the last read of the fleet's gauges.")
        self._read_at.set(nan)  # 0 would show as an age of half a century

    def show_budget(self, limits: Mapping[str, int]) -> None:
        """Show the budget of each tag; that of all models is the one without a tag."""
        for tag, most in limits.items():
            self._budget.labels(tag).set(most)

    def show(self, found: FleetNumbers, at: float) -> None:
        """Set the gauges about the whole fleet, as read from Postgres at `at`, in Unix seconds."""
        self._observed.set(found.models)
        self._replicas.set(found.replicas)
        self._full.set(found.without_enough)
        self._pending.set(found.pending)
        self._oldest_event.set(found.oldest_event or 0)
        self._next_deadline.set(nan if found.next_deadline is None else found.next_deadline)
        for gauge, values, keys in (
            (self._in_progress, found.in_progress, KINDS),
            (self._commands, found.commands, UNFINISHED),
            (self._spells, found.spells, OPEN_STATES),
            (self._paused, found.paused, Job),
        ):
            for key in keys:
                gauge.labels(key).set(values.get(key, 0))
        for target in self.targets:  # one that was never read grows old too: its alarm must not wait for a first time
            self._reading_age.labels(target).set(found.reading_ages.get(target, max(0.0, at - self.watched_since)))
        self._flapping.set(found.flapping)
        self._show_models(found.by_model or {})
        self._read_at.set(at)

    def _show_models(self, models: Mapping[str, ModelNumbers]) -> None:
        """Show these models and no others: one that is gone has no number."""
        for gauge in (self._model_rps, self._model_replicas, self._model_idle):
            gauge.clear()
        for name, numbers in models.items():
            self._model_rps.labels(name).set(nan if numbers.rps is None else numbers.rps)
            self._model_replicas.labels(name).set(numbers.replicas)
            self._model_idle.labels(name).set(numbers.idle_seconds)

    def show_dead_letters(self, messages: Mapping[str, int] | None, queues: Iterable[str]) -> None:
        """Set how many dead letters each queue has; None if RabbitMQ does not tell."""
        for queue in queues:
            self._dead.labels(queue).set(nan if messages is None else messages[queue])

    def hide(self) -> None:
        """Postgres cannot be read: show no number rather than an old one."""
        for gauge in (self._observed, self._replicas, self._full, self._pending, self._oldest_event, self._flapping):
            gauge.set(nan)
        self._show_models({})
        self._next_deadline.set(nan)
        for labelled, keys in (
            (self._in_progress, KINDS),
            (self._commands, UNFINISHED),
            (self._spells, OPEN_STATES),
            (self._paused, Job),
            (self._reading_age, self.targets),
        ):
            for key in keys:
                labelled.labels(key).set(nan)
