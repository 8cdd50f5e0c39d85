"""What the gateway counts for Prometheus, in a registry of its own: requests, and on demand what queues hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from redisq.model import QueueStats

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NOW = {  # what a queue holds now
    "ready": "Messages that a worker can claim.",
    "scheduled": "Messages that are due later: delayed ones and retries.",
    "in_progress": "Messages that workers have claimed.",
    "finished": "Finished messages that can be looked up.",
    "dead": "Dead letters.",
}
_TOTALS = {
    "queued": "Messages that were queued.",
    "completed": "Messages that completed.",
    "failed": "Deliveries that failed.",
    "lost": "Deliveries whose lease lapsed.",
    "died": "Messages that became dead letters.",
    "deleted": "Messages that were deleted.",
}


class Meters:
    """The counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "redisq_http_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "redisq_http_request_seconds",
            "Time to answer, long waits included.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("redisq_http_in_flight", "Requests that are being handled.", registry=self.registry)
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request. Its route's path stands for it, so that no stranger makes new series."""
        route = scope.get("route")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        name = method, getattr(route, "path", "none"), status
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = (self._requests.labels(*name), self._seconds.labels(*name[:2]))
        found[0].inc()
        found[1].observe(seconds)

    def text(self, queues: Sequence[QueueStats] | None) -> bytes:
        """Write all in the Prometheus text format, with what queues hold; None when that is not known."""
        registry = CollectorRegistry()
        registry.register(_Queues(queues))
        return bytes(generate_latest(self.registry) + generate_latest(registry))


class _Queues(Collector):
    """What queues hold, as Prometheus reads it."""

    def __init__(self, queues: Sequence[QueueStats] | None) -> None:
        self._queues = queues

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "redisq_up", "Whether Redis answered when this was written.", value=int(self._queues is not None)
        )
        queues = self._queues or ()
        yield from _families(GaugeMetricFamily, "redisq_queue_", _NOW, queues)
        yield from _families(CounterMetricFamily, "redisq_queue_", _TOTALS, queues)
        age = GaugeMetricFamily(
            "redisq_queue_oldest_age_seconds", "Age of the oldest ready message, 0 when none is.", labels=["queue"]
        )
        for queue in queues:
            age.add_metric([queue.queue], queue.oldest_age or 0.0)
        yield age


def _families(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    prefix: str,
    fields: dict[str, str],
    queues: Sequence[QueueStats],
) -> Iterator[Metric]:
    for field, text in fields.items():
        family = kind(prefix + field, text, labels=["queue"])
        for queue in queues:
            family.add_metric([queue.queue], getattr(queue, field))
        yield family
