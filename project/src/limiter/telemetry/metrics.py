"""Metrics on one registry: how each is made and named."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

PREFIX = "rps_limiter_"

disable_created_metrics()  # type: ignore[no-untyped-call]  # another series for each of ours, which nobody reads


class Metrics:
    """Makes the metrics of one registry; `names` are those of a metric's labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def counter(self, name: str, text: str, *names: str) -> Counter:
        """Only ever rises."""
        return Counter(PREFIX + name, text, names, registry=self.registry)

    def gauge(self, name: str, text: str, *names: str) -> Gauge:
        """Rises and falls."""
        return Gauge(PREFIX + name, text, names, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float], *names: str) -> Histogram:
        """Counts what is observed, by its size."""
        return Histogram(PREFIX + name, text, names, registry=self.registry, buckets=buckets)
