"""A worker of a run, as a process: `python -m tests.chaos.worker`. Its handlers do what the messages tell them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from redisq import Delivery, Worker
from tests.chaos.conduct import end_a_child, is_forked_child, odd_error
from tests.chaos.history import Log
from tests.chaos.messages import TIMEOUT, digest
from tests.chaos.nemesis import LOOP_HELD, Occurrence, note
from tests.chaos.part import Part

_HANG = TIMEOUT + 1.0  # seconds

worker = Worker()
log = Log(Part.mine().folder, Part.mine().slot)


class Planned(Exception):
    """The message told its handler to fail."""


@worker.lifespan
async def opened() -> AsyncIterator[dict[str, str]]:
    """Open what handlers share, with something that goes on meanwhile."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.Event().wait())
        yield {"process": log.process}
        task.cancel()


@worker.middleware
async def through(delivery: Delivery, call_next: Callable[[Delivery], Any]) -> Any:
    """Be around each handler, and a moment longer."""
    assert delivery.state == {"process": log.process}
    await asyncio.sleep(0)
    result = await call_next(delivery)
    await asyncio.sleep(0)
    return result


def begin(delivery: Delivery) -> tuple[int, str]:
    """Note the start; give its time and the digest of what came."""
    seen = digest(delivery.request)
    return log.note("start", delivery.id, delivery.attempt, seen), seen


def told(delivery: Delivery) -> str:
    """Say what this attempt shall do: just `work` once it is beyond the first `times`."""
    body = delivery.request
    return str(body["do"]) if delivery.attempt <= body.get("times", 0) else "work"


def seconds(delivery: Delivery) -> float:
    """Say how long this attempt shall take; one that hangs overruns its timeout, and says so before."""
    do, body = told(delivery), delivery.request
    if do == "hang":
        log.note("hang", delivery.id, delivery.attempt)
        return _HANG
    return float(body["seconds"] if do == "long" else body["ms"] / 1000)


def hold_the_loop(seconds: float) -> None:
    """Let nobody else have the loop; say so, as it makes others late."""
    began = time.monotonic_ns()
    time.sleep(seconds)
    note(Part.mine().folder, Occurrence(LOOP_HELD, log.process, began, time.monotonic_ns()))


def finish(delivery: Delivery, began: int, seen: str) -> dict[str, Any]:
    """Note the end and give the result, or fail as told."""
    do = told(delivery)
    if do in ("fail", "raise"):
        log.note("failed", delivery.id, delivery.attempt)
        text = f"attempt {delivery.attempt} was told to fail"
        raise odd_error(delivery.attempt) if do == "raise" else Planned(text)
    log.note("end", delivery.id, delivery.attempt, seen, began)
    return {"attempt": delivery.attempt, "digest": seen}


@worker.handler("tasks", concurrency=50, timeout=TIMEOUT)
async def work(delivery: Delivery) -> dict[str, Any]:
    """Work on the loop."""
    began, seen = begin(delivery)
    do = told(delivery)
    try:
        await asyncio.sleep(seconds(delivery))
        if do == "hold":
            hold_the_loop(delivery.request["seconds"])
        elif do == "thread":
            await asyncio.to_thread(time.sleep, delivery.request["seconds"])
    except asyncio.CancelledError:
        log.note("cancelled", delivery.id, delivery.attempt)
        raise
    if do == "fork":
        end_a_child()
        if is_forked_child():
            return {}
    return finish(delivery, began, seen)


@worker.handler("plain", concurrency=8, timeout=TIMEOUT)
def work_in_thread(delivery: Delivery) -> dict[str, Any]:
    """Work in a thread."""
    began, seen = begin(delivery)
    time.sleep(seconds(delivery))
    do = told(delivery)
    if do == "thread":
        thread = threading.Thread(target=time.sleep, args=(delivery.request["seconds"],))
        thread.start()
        thread.join()
    elif do == "fork":
        end_a_child()
        if is_forked_child():
            return {}
    return finish(delivery, began, seen)


if __name__ == "__main__":
    sys.exit(worker.run())
