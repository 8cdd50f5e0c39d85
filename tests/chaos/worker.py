"""A worker of a run, as a process: `python -m tests.chaos.worker`. Its handlers do what the messages tell them."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from redisq import Delivery, Worker
from tests.chaos.history import Log
from tests.chaos.messages import TIMEOUT, digest
from tests.chaos.part import Part

_HANG = TIMEOUT + 1.0  # seconds

worker = Worker()
log = Log(Part.mine().folder, Part.mine().slot)


class Planned(Exception):
    """The message told its handler to fail."""


def begin(delivery: Delivery) -> tuple[int, str]:
    """Note the start; give its time and the digest of what came."""
    seen = digest(delivery.request)
    return log.note("start", delivery.id, delivery.attempt, seen), seen


def seconds(delivery: Delivery) -> float:
    """Say how long this attempt shall take; one that hangs overruns its timeout, and says so before."""
    body = delivery.request
    if body["do"] == "hang" and delivery.attempt <= body["times"]:
        log.note("hang", delivery.id, delivery.attempt)
        return _HANG
    return float(body["ms"]) / 1000


def finish(delivery: Delivery, began: int, seen: str) -> dict[str, Any]:
    """Note the end and give the result, or fail as told."""
    body = delivery.request
    if body["do"] == "fail" and delivery.attempt <= body["times"]:
        log.note("failed", delivery.id, delivery.attempt)
        raise Planned(f"attempt {delivery.attempt} was told to fail")
    log.note("end", delivery.id, delivery.attempt, seen, began)
    return {"attempt": delivery.attempt, "digest": seen}


@worker.handler("tasks", concurrency=50, timeout=TIMEOUT)
async def work(delivery: Delivery) -> dict[str, Any]:
    """Work on the loop."""
    began, seen = begin(delivery)
    try:
        await asyncio.sleep(seconds(delivery))
    except asyncio.CancelledError:
        log.note("cancelled", delivery.id, delivery.attempt)
        raise
    return finish(delivery, began, seen)


@worker.handler("plain", concurrency=8, timeout=TIMEOUT)
def work_in_thread(delivery: Delivery) -> dict[str, Any]:
    """Work in a thread."""
    began, seen = begin(delivery)
    time.sleep(seconds(delivery))
    return finish(delivery, began, seen)


if __name__ == "__main__":
    sys.exit(worker.run())
