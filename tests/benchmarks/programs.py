"""Drivers and workers of queues, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.handled import EXPECTED, REPORT
from tests.benchmarks.peers import Adapter, NotThere, last_line

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds for one driver or worker to get done
LOOK = 0.02
SETTLE = 1.0  # seconds for a worker to become idle
SPACING = 0.01  # seconds between messages that shall find the worker idle
_FAREWELL = 10.0  # seconds from SIGTERM to SIGKILL


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
        end = time.monotonic() + PATIENCE
        while not self.report.exists():
            if self._process.poll() is not None:
                raise NotThere(f"its worker ended: {last_line(self.report.with_suffix('.log').read_text())}")
            if time.monotonic() > end:
                raise NotThere(f"its worker got not done within {PATIENCE:.0f} s")
            time.sleep(LOOK)
        told: dict[str, Any] = json.loads(self.report.read_text())
        return told

    def end(self) -> None:
        """End it, and what it has started: politely, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_FAREWELL)


class Programs:
    """Runs drivers and workers that reach their server at `url`. `folder` is for reports and logs."""

    def __init__(self, url: str, folder: Path, **environment: str) -> None:
        self._url = url
        self._folder = folder
        others = {name: value for name, value in os.environ.items() if not name.startswith("REDISQ_")}
        self._environment = {**others, **environment, "BENCH_URL": url, "PYTHONPATH": str(ROOT)}

    def drive(
        self, candidate: Candidate, way: str, count: int, number: float = 0, worker: Worker | None = None
    ) -> dict[str, Any]:
        """Run a driver, which first meets the worker if there is one; give what it tells."""
        environment = {**self._environment, **({REPORT: str(worker.report)} if worker else {})}
        program = [str(candidate.programs / "python"), "-m", "tests.benchmarks.driver", candidate.adapter.name]
        command = [*program, way, str(count), str(number)]
        options: dict[str, Any] = {"env": environment, "cwd": self._folder, "timeout": PATIENCE}
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
        except subprocess.TimeoutExpired:
            raise NotThere(f"queueing ({way}) took more than {PATIENCE:.0f} s") from None
        if done.returncode:
            raise NotThere(f"queueing ({way}): {last_line(done.stderr)}")
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    @contextmanager
    def working(self, candidate: Candidate, expected: int, *options: str, **environment: str) -> Iterator[Worker]:
        """Run one worker process that reports once it has handled so many."""
        report = self._folder / f"{candidate.adapter.name}.json"
        for path in (report, report.with_suffix(".ready")):
            path.unlink(missing_ok=True)
        program, *arguments = shlex.split(candidate.adapter.worker.format(url=self._url))
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
