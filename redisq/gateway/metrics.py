"""What the gateway counts for Prometheus, in a registry of its own: requests, and on demand what queues hold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import Scope

from redisq.model.queue import QueueStats
from redisq.tokens.applications import Registry

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
    "cancelled": "Messages that were cancelled.",
}


class _Tally:
    """How many requests of a method and a route were answered with each status, and in which time."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(_SECONDS) + 1)
        self.seconds = 0.0


class Meters(Collector):
    """The counters of one gateway: plain numbers, as all requests are of one thread, and locks take their time."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request. Its route's path stands for it, so that no stranger makes new series."""
        name = scope["method"], getattr(scope.get("route"), "path", "none")
        tally = self._tallies.get(name)
        if tally is None:
            method, path = name
            tally = self._tallies.setdefault((method if method in _METHODS else "other", path), _Tally())
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        tally.buckets[bisect_left(_SECONDS, seconds)] += 1
        tally.seconds += seconds

    def collect(self) -> Iterable[Metric]:
        """Return the numbers as they are."""
        requests = CounterMetricFamily(
            "redisq_http_requests", "Requests by route and status.", labels=["method", "route", "status"]
        )
        times = HistogramMetricFamily(
            "redisq_http_request_seconds", "Time to answer, long waits included.", labels=["method", "route"]
        )
        for name, tally in self._tallies.items():
            for status, number in tally.statuses.items():
                requests.add_metric([*name, str(status)], number)
            sums = zip([*map(floatToGoString, _SECONDS), "+Inf"], accumulate(tally.buckets), strict=True)
            times.add_metric(name, list(sums), tally.seconds)
        yield requests
        yield times
        yield GaugeMetricFamily("redisq_http_in_flight", "Requests that are being handled.", value=self.in_flight)

    def text(self, queues: Sequence[QueueStats] | None, known: Registry | None = None) -> bytes:
        """Write all in the Prometheus text format, with what queues hold and which applications are known; None when
        that cannot be told."""
        registry = CollectorRegistry()
        registry.register(self)
        registry.register(_Queues(queues))
        if known is not None:
            registry.register(_Applications(known))
        return bytes(generate_latest(registry))


class _Applications(Collector):
    """How many records of applications count, and how many do not, and why, as Prometheus reads it."""

    def __init__(self, known: Registry) -> None:
        self._known = known

    def collect(self) -> Iterable[Metric]:
        known = self._known
        found = GaugeMetricFamily(
            "redisq_applications", "Records of applications, by whether and why not they count.", labels=["state"]
        )
        for state, records in (
            ("known", known.applications),
            ("unverified", known.unverified),
            ("replayed", known.replayed),
            ("strayed", known.strayed),
            ("overtaken", known.overtaken),
        ):
            found.add_metric([state], len(records))
        yield found


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
