"""What this replica is and how it fares, besides what it does."""

from prometheus_client import PlatformCollector, ProcessCollector

from limiter.telemetry import labels
from limiter.telemetry.metrics import Metrics


class ReplicaMetrics:
    """Version, readiness, connections, circuits and stalls of one process."""

    def __init__(self, make: Metrics) -> None:
        self.left_alone: set[tuple[str, str]] = set()  # external services whose circuit is open
        self._build = make.gauge("build_info", "1; the label tells the version.", "version")
        self._dry_run = make.gauge("dry_run", "1 while nothing is commanded, cancelled or sent.")
        self._ready = make.gauge("ready", "1 while this replica has all that it needs.")
        self._connections = make.gauge(
            "database_connections_in_use", "Connections in use, of the pool that jobs and pages share."
        )
        self._recording = make.gauge("recording_stopped", "1 since the recording of readings had to stop.")
        self._circuits = make.gauge("circuit_open", "1 while the external service is left alone.", "peer")
        self._stalls = make.histogram(
            "event_loop_stall_seconds", "Seconds by which the event loop went on later than it should.", labels.STALLS
        )
        ProcessCollector(registry=make.registry)
        PlatformCollector(registry=make.registry)
        for service in labels.PEERS:
            self._circuits.labels(service)

    def show_service(self, version: str, *, dry_run: bool) -> None:
        """Show what this replica is; it does not change."""
        self._build.labels(version).set(1)
        self._dry_run.set(dry_run)

    def show_ready(self, ready: bool, connections: int) -> None:
        """Show whether this replica has what it needs, and how many connections of its pool are in use."""
        self._ready.set(ready)
        self._connections.set(connections)

    def recording_stopped(self) -> None:
        self._recording.set(1)

    def circuit(self, service: str, url: str, *, is_open: bool) -> None:
        """Note whether an external service is left alone for now; of several at one name, whether any is."""
        (self.left_alone.add if is_open else self.left_alone.discard)((service, url))
        self._circuits.labels(service).set(any(name == service for name, _ in self.left_alone))

    def stalled(self, seconds: float) -> None:
        """Note how much later than it should the event loop went on."""
        self._stalls.observe(seconds)
