"""The measurements of one queue: each empties the server, runs drivers and workers, and takes samples down."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redisq import Credentials, RedisQ, Settings
from tests.benchmarks.driver import WARM_UP
from tests.benchmarks.figures import CALLERS, Samples
from tests.benchmarks.handled import EXPECTED, REPORT
from tests.benchmarks.peers import Adapter, NotThere, last_line
from tests.benchmarks.server import Server, Totals

ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0  # seconds for one driver or worker to get done
_LOOK = 0.02
_SETTLE = 1.0  # seconds for a worker to become idle
_FAREWELL = 10.0  # seconds from SIGTERM to SIGKILL
_QUEUE = "bench"  # that of the adapters
_OWN = 3  # commands of a look at what a server did
_SPACING = 0.01  # seconds between messages that shall find the worker idle


@dataclass(frozen=True)
class Candidate:
    """An adapter, and the folder of its environment's programs."""

    adapter: Adapter
    programs: Path


class Worker:
    """One worker process, and the report that it writes once it has handled what is expected."""

    def __init__(self, process: subprocess.Popen[bytes], report: Path) -> None:
        self._process = process
        self.report = report

    def told(self) -> dict[str, Any]:
        """Give the report, when it is there."""
        end = time.monotonic() + _PATIENCE
        while not self.report.exists():
            if self._process.poll() is not None:
                raise NotThere(f"its worker ended: {last_line(self.report.with_suffix('.log').read_text())}")
            if time.monotonic() > end:
                raise NotThere(f"its worker got not done within {_PATIENCE:.0f} s")
            time.sleep(_LOOK)
        told: dict[str, Any] = json.loads(self.report.read_text())
        return told

    def end(self) -> None:
        """End it, and what it has started: politely, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_FAREWELL)


class Bench:
    """Measures queues on one server. `folder` is for reports and logs; `watch` is how long to see a worker idle."""

    def __init__(self, server: Server, folder: Path, samples: Samples, count: int, watch: float) -> None:
        self._server = server
        self._folder = folder
        self._samples = samples
        self._count = count
        self._watch = watch
        application = Credentials.generate("bench")
        ours = {"REDISQ_URL": server.url, "REDISQ_APP_ID": application.app, "REDISQ_APP_SECRET": application.secret()}
        others = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
        self._environment = {**others, **ours, "BENCH_URL": server.url, "PYTHONPATH": str(ROOT)}

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
        with self._working(candidate, count + WARM_UP) as worker:
            began, before = time.monotonic(), self._server.totals()
            self._drive(candidate, "spaced", count, _SPACING, worker)
            self._samples.add_latencies("latency", name, worker.told()["latencies"])
            busy, seconds = self._server.totals() - before, time.monotonic() - began
            time.sleep(_SETTLE)
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
        queued = self._drive(candidate, "bulk", self._count)["queued"]
        with self._working(candidate, 0, "--processes", str(number)), self._looking() as mq:
            while not (before := mq.stats(_QUEUE).completed):
                time.sleep(_LOOK)
            began, end = time.monotonic(), time.monotonic() + _PATIENCE
            while (done := mq.stats(_QUEUE).completed) < queued:
                if time.monotonic() > end:
                    raise NotThere(f"{number} worker processes got not done within {_PATIENCE:.0f} s")
                time.sleep(_LOOK / 10)
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
        queued = self._drive(candidate, "bulk", self._count)["queued"]
        self._work_off(f"drain:{number}", candidate, queued, BENCH_CONCURRENCY=str(number))

    # --- How ---

    def _looking(self) -> RedisQ:
        application, secret = (self._environment[name] for name in ("REDISQ_APP_ID", "REDISQ_APP_SECRET"))
        return RedisQ(settings=Settings(url=self._server.url, app_id=application, app_secret=secret))

    def _queue(self, measure: str, candidate: Candidate, way: str, number: float = 0) -> int:
        """Queue, take the rate and the costs down, and give how many are in the queue."""
        count = round(self._count * candidate.adapter.share)
        before = self._server.totals()
        told = self._drive(candidate, way, count, number)
        self._take(measure, candidate, count, told, self._server.totals() - before)
        return int(told["queued"])

    def _work_off(self, measure: str, candidate: Candidate, count: int, **environment: str) -> None:
        before = self._server.totals()
        with self._working(candidate, count, **environment) as worker:
            told = worker.told()
            done = self._server.totals() - before
        self._take(measure, candidate, count, told, done)

    def _meet(self, candidate: Candidate, way: str, number: float) -> dict[str, Any]:
        """Queue for a worker that waits for it, and give the worker's report."""
        self._server.empty()
        with self._working(candidate, self._count + WARM_UP) as worker:
            self._drive(candidate, way, self._count, number, worker)
            return worker.told()

    def _take(self, measure: str, candidate: Candidate, count: int, told: Mapping[str, Any], done: Totals) -> None:
        name = candidate.adapter.name
        self._samples.add(measure, name, count / told["seconds"])
        self._samples.add(f"{measure}:client_cpu", name, told["cpu"] / count)
        for cost, total in vars(done).items():
            self._samples.add(f"{measure}:{cost}", name, total / count)

    def _drive(
        self, candidate: Candidate, way: str, count: int, number: float = 0, worker: Worker | None = None
    ) -> dict[str, Any]:
        """Run a driver, which first meets the worker if there is one; give what it tells."""
        environment = {**self._environment, **({REPORT: str(worker.report)} if worker else {})}
        program = [str(candidate.programs / "python"), "-m", "tests.benchmarks.driver", candidate.adapter.name]
        command = [*program, way, str(count), str(number)]
        options: dict[str, Any] = {"env": environment, "cwd": self._folder, "timeout": _PATIENCE}
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
        except subprocess.TimeoutExpired:
            raise NotThere(f"queueing ({way}) took more than {_PATIENCE:.0f} s") from None
        if done.returncode:
            raise NotThere(f"queueing ({way}): {last_line(done.stderr)}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    @contextmanager
    def _working(self, candidate: Candidate, expected: int, *options: str, **environment: str) -> Iterator[Worker]:
        """Run one worker process that reports once it has handled so many."""
        report = self._folder / f"{candidate.adapter.name}.json"
        for path in (report, report.with_suffix(".ready")):
            path.unlink(missing_ok=True)
        program, *arguments = shlex.split(candidate.adapter.worker.format(url=self._server.url))
        with report.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(
                [candidate.programs / program, *arguments, *options],
                env={**self._environment, REPORT: str(report), EXPECTED: str(expected), **environment},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        worker = Worker(process, report)
        try:
            yield worker
        finally:
            worker.end()
