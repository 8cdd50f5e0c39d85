"""Runs inside a worker: counts what its handlers got, and when all is there writes how long it took to a file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: `<report>.ready` is there once a message of READY was handled, which does not count; `<report>` once all others were.
REPORT, EXPECTED = "BENCH_REPORT", "BENCH_EXPECTED"
READY = {"ready": True}


class Tally:
    """Counts handlers from any thread. Times are monotonic, which all processes of a machine share."""

    def __init__(self, report: Path, expected: int) -> None:
        self._report = report
        self._expected = expected
        self._lock = threading.Lock()
        self._count = 0
        self._began = self._cpu = 0.0
        self._latencies: list[float] = []

    def add(self, message: Mapping[str, Any]) -> None:
        """Count one. A message that says when it was to be `sent` tells a latency, too."""
        now = time.monotonic()
        if message == READY:
            self._report.with_suffix(".ready").touch()
            return
        with self._lock:
            if not self._count:
                self._began, self._cpu = now, time.process_time()
            self._count += 1
            if "sent" in message:
                self._latencies.append(now - message["sent"])
            if self._count == self._expected:
                self._write()

    def _write(self) -> None:
        seconds, cpu = time.monotonic() - self._began, time.process_time() - self._cpu
        told = {"handled": self._count, "seconds": seconds, "cpu": cpu, "latencies": self._latencies}
        part = self._report.with_suffix(".part")
        part.write_text(json.dumps(told))
        part.rename(self._report)


_tally = Tally(Path(os.environ.get(REPORT, "report")), int(os.environ.get(EXPECTED, "0")))
handled = _tally.add
