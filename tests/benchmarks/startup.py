"""What it costs to begin: processor time of a process that imports redisq, and of one that shows its help."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from tests.benchmarks.figures import Samples
from tests.benchmarks.peers import OURS
from tests.benchmarks.programs import ROOT

PROGRAMS = {
    "import": ["-c", "import redisq"],
    "import client": ["-c", "from redisq import RedisQ"],
    "help": ["-m", "redisq", "--help"],
}


def measure(samples: Samples, rounds: int) -> None:
    """Run each of the programs a few times, the first time in vain: then all is compiled and in memory."""
    for measure, arguments in PROGRAMS.items():
        cpu_of(arguments)
        for _ in range(2 * rounds):
            samples.add(measure, OURS, cpu_of(arguments))


def cpu_of(arguments: list[str]) -> float:
    """Run Python to its end and give the seconds of processor time that it took, its own start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
