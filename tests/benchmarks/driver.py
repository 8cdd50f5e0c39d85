"""Runs inside a queue's own environment and queues: `python -m tests.benchmarks.driver ADAPTER WAY COUNT [NUMBER]`.

Prints one line of JSON: how many it `queued`, those to warm up included; the `seconds` and `cpu` seconds of the others.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.adapters import MESSAGE
from tests.benchmarks.handled import READY, REPORT

WARM_UP = 20  # messages before the clock starts: connections are made, scripts loaded, tokens signed
_PATIENCE = 60.0  # seconds for a worker to be there


async def one(adapter: Any, count: int, _: float) -> None:
    """Queue one after the other."""
    if inspect.iscoroutinefunction(adapter.put):
        for _ in range(count):
            await adapter.put(MESSAGE)
    else:
        for _ in range(count):
            adapter.put(MESSAGE)


async def callers(adapter: Any, count: int, number: float) -> None:
    """Queue from so many callers at once, each one after the other."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await adapter.put(MESSAGE)

    await asyncio.gather(*(caller() for _ in range(int(number))))


async def bulk(adapter: Any, count: int, _: float) -> None:
    """Queue many in each call."""
    await _call(adapter.bulk, count)


async def spaced(adapter: Any, count: int, seconds: float) -> None:
    """Queue one after the other with a pause before each, so that the worker is idle whenever one comes."""
    for _ in range(count):
        await asyncio.sleep(seconds)
        await _call(adapter.put, {"sent": time.monotonic()})


async def paced(adapter: Any, count: int, rate: float) -> None:
    """Queue so many per second, whether or not earlier ones were answered.

    Each tells when it was *to be* sent: were this process or the queue held up, what waits meanwhile counts as late.
    """
    began, under_way = time.monotonic(), []
    for number in range(count):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        under_way.append(asyncio.create_task(adapter.put({"sent": due})))
    await asyncio.gather(*under_way)


async def meet_worker(adapter: Any, ready: Path) -> None:
    """Return when the worker has handled a message that tells that it is there.

    Raises:
        TimeoutError: it has not.
    """
    await _call(adapter.put, READY)
    async with asyncio.timeout(_PATIENCE):
        while not ready.exists():
            await asyncio.sleep(0.02)


async def _call(function: Callable[..., Any], *arguments: Any) -> None:
    value = function(*arguments)
    if inspect.isawaitable(value):
        await value


WAYS = {"one": one, "callers": callers, "bulk": bulk, "spaced": spaced, "paced": paced}


async def main(name: str, way: str, count: int, number: float) -> None:
    """Set up, meet the worker if there is one, warm up, queue, tell."""
    adapter = importlib.import_module(f"tests.benchmarks.adapters.{name}")
    if hasattr(adapter, "setup"):
        await _call(adapter.setup)
    if REPORT in os.environ:
        await meet_worker(adapter, Path(os.environ[REPORT]).with_suffix(".ready"))
    await one(adapter, WARM_UP, 0)
    began, cpu = time.perf_counter(), time.process_time()
    await WAYS[way](adapter, count, number)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"queued": count + WARM_UP, "seconds": seconds, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if sys.argv[4:] else 0.0))
