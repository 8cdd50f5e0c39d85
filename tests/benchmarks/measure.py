"""The measurements of one queue: each empties the server, runs drivers and workers, and takes samples down."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redisq import Credentials, RedisQ, Settings
from tests.benchmarks.driver import WARM_UP
from tests.benchmarks.figures import CALLERS, Samples
from tests.benchmarks.peers import NotThere
from tests.benchmarks.programs import LOOK, PATIENCE, SETTLE, SPACING, Candidate, Programs
from tests.benchmarks.server import Server, Totals

_QUEUE = "bench"  # that of the adapters
_OWN = 3  # commands of a look at what a server did


class Bench(Programs):
    """Measures queues on one server. `folder` is for reports and logs; `watch` is how long to see a worker idle."""

    def __init__(self, server: Server, folder: Path, samples: Samples, count: int, watch: float) -> None:
        application = Credentials.generate("bench")
        ours = {"REDISQ_URL": server.url, "REDISQ_APP_ID": application.app, "REDISQ_APP_SECRET": application.secret()}
        super().__init__(server.url, folder, **ours)
        self._server = server
        self._samples = samples
        self._count = count
        self._watch = watch

    # --- All of them ---

    def drain(self, candidate: Candidate) -> None:
        """Queue one by one, then have one worker process handle it all; look at what is stored before and after."""
        name = candidate.adapter.name
        self._server.empty()
        empty = self._server.memory()
        queued = self._queue("queue", candidate, "one")
        self._samples.add("waiting", name, (self._server.memory() - empty) / queued)
        self._work_off("drain", candidate, queued)
        self._samples.add("kept", name, (self._server.memory() - empty) / queued)

    def callers(self, candidate: Candidate, number: int = CALLERS) -> None:
        """Queue from many callers at once, if the queue is one for asyncio."""
        if "callers" in candidate.adapter.ways:
            self._server.empty()
            self._queue(f"callers:{number}", candidate, "callers", number)

    def bulk(self, candidate: Candidate) -> None:
        """Queue many in each call, if the queue has such a call."""
        if "bulk" in candidate.adapter.ways:
            self._server.empty()
            self._queue("bulk", candidate, "bulk")

    def latency(self, candidate: Candidate) -> None:
        """Queue messages that find the worker idle, and see when their handlers begin; then watch it idling.

        The server's time of a trickle is that of a message's whole life, less what an idle server and worker take.
        """
        name, count = candidate.adapter.name, max(100, self._count // 20)
        self._server.empty()
        with self.working(candidate, count + WARM_UP) as worker:
            began, before = time.monotonic(), self._server.totals()
            self.drive(candidate, "spaced", count, SPACING, worker)
            self._samples.add_latencies("latency", name, worker.told()["latencies"])
            busy, seconds = self._server.totals() - before, time.monotonic() - began
            time.sleep(SETTLE)
            before = self._server.totals()
            time.sleep(self._watch)
            idle = self._server.totals() - before
            self._samples.add("idle", name, (idle.commands - _OWN) / self._watch)
            self._samples.add("trickle:cpu", name, (busy.cpu - idle.cpu / self._watch * seconds) / (count + WARM_UP))

    # --- redisq alone ---

    def durable(self, candidate: Candidate, policy: str) -> None:
        """Queue one by one, then work off, while Redis appends each write to its file by this policy."""
        self._server.empty()
        with self._server.appending(policy):
            queued = self._queue(f"queue:{policy}", candidate, "one")
            self._work_off(f"drain:{policy}", candidate, queued)

    def crowd(self, candidate: Candidate, number: int) -> None:
        """Queue one by one, then work off, while so many other connections are open and idle."""
        self._server.empty()
        with self._server.crowded(number):
            queued = self._queue(f"queue:{number} idle", candidate, "one")
            self._work_off(f"drain:{number} idle", candidate, queued)

    def processes(self, candidate: Candidate, number: int) -> None:
        """Have so many worker processes handle what was queued in bulk, from the first start to the last end."""
        self._server.empty()
        queued = self.drive(candidate, "bulk", self._count)["queued"]
        with self.working(candidate, 0, "--processes", str(number)), self._looking() as mq:
            while not (before := mq.stats(_QUEUE).completed):
                time.sleep(LOOK)
            began, end = time.monotonic(), time.monotonic() + PATIENCE
            while (done := mq.stats(_QUEUE).completed) < queued:
                if time.monotonic() > end:
                    raise NotThere(f"{number} worker processes got not done within {PATIENCE:.0f} s")
                time.sleep(LOOK / 10)
            seconds = time.monotonic() - began
        self._samples.add(f"processes:{number}", candidate.adapter.name, (done - before) / seconds)

    def load(self, candidate: Candidate) -> None:
        """Find how much one producer and one worker get done at the same time; then see latencies at half of that."""
        name = candidate.adapter.name
        told = self._meet(candidate, "callers", CALLERS)
        most = told["handled"] / told["seconds"]
        self._samples.add("maximum", name, most)
        self._samples.add_latencies("load", name, self._meet(candidate, "paced", most / 2)["latencies"])

    def slots(self, candidate: Candidate, number: int) -> None:
        """Have a worker of so many slots handle it all."""
        self._server.empty()
        queued = self.drive(candidate, "bulk", self._count)["queued"]
        self._work_off(f"drain:{number}", candidate, queued, BENCH_CONCURRENCY=str(number))

    # --- How ---

    def _looking(self) -> RedisQ:
        application, secret = (self._environment[name] for name in ("REDISQ_APP_ID", "REDISQ_APP_SECRET"))
        return RedisQ(settings=Settings(url=self._server.url, app_id=application, app_secret=secret))

    def _queue(self, measure: str, candidate: Candidate, way: str, number: float = 0) -> int:
        """Queue, take the rate and the costs down, and give how many are in the queue."""
        count = round(self._count * candidate.adapter.share)
        before = self._server.totals()
        told = self.drive(candidate, way, count, number)
        self._take(measure, candidate, count, told, self._server.totals() - before)
        return int(told["queued"])

    def _work_off(self, measure: str, candidate: Candidate, count: int, **environment: str) -> None:
        before = self._server.totals()
        with self.working(candidate, count, **environment) as worker:
            told = worker.told()
            done = self._server.totals() - before
        self._take(measure, candidate, count, told, done)

    def _meet(self, candidate: Candidate, way: str, number: float) -> dict[str, Any]:
        """Queue for a worker that waits for it, and give the worker's report."""
        self._server.empty()
        with self.working(candidate, self._count + WARM_UP) as worker:
            self.drive(candidate, way, self._count, number, worker)
            return worker.told()

    def _take(self, measure: str, candidate: Candidate, count: int, told: Mapping[str, Any], done: Totals) -> None:
        name = candidate.adapter.name
        self._samples.add(measure, name, count / told["seconds"])
        self._samples.add(f"{measure}:client_cpu", name, told["cpu"] / count)
        for cost, total in vars(done).items():
            self._samples.add(f"{measure}:{cost}", name, total / count)
