"""A worker of a run, as a process: `python -m tests.chaos.worker`. Its handlers do what the messages tell them.

It is two workers in one process: one whose handlers are async, of single messages and of batches, and one whose handler
is plain. Each has a lifespan and middleware of its own kind, which are told to die now and then, see `pass_by`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from redisq import Delivery, Worker
from redisq.worker.worker import run_together
from tests.chaos.conduct import end_a_child, is_forked_child, pass_by, planned_error, told
from tests.chaos.history import Log
from tests.chaos.messages import LEASE, TIMEOUT, TRACE, digest
from tests.chaos.nemesis import LOOP_HELD, Occurrence, note
from tests.chaos.part import Part

_HANG = TIMEOUT + 1.0  # seconds
_LONGEST_BATCH = 0.1
_RAISED = {"fail": "failed", "raise": "failed", "spoil": "failed", "defer": "deferred"}

worker, plain_worker = Worker(), Worker()
log = Log(Part.mine().folder, Part.mine().slot)


# --- Around the handlers ---


@worker.lifespan
async def opened() -> AsyncIterator[Mapping[str, Log]]:
    """Open what handlers share, with something that goes on meanwhile."""
    pass_by("lifespan.start")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.Event().wait())
        yield {"log": log}
        pass_by("lifespan.end")
        task.cancel()


@plain_worker.lifespan
def opened_in_thread() -> Iterator[Mapping[str, Log]]:
    """Open what the plain handler needs."""
    pass_by("plain lifespan.start")
    yield {"log": log}
    pass_by("plain lifespan.end")


@worker.middleware
@plain_worker.middleware
async def through(delivery: Any, call_next: Callable[[Any], Any]) -> Any:
    """Be around each handler, or the hop to its thread, and a moment longer."""
    assert delivery.state == {"log": log}
    await asyncio.sleep(0)
    pass_by("middleware.before")
    result = await call_next(delivery)
    await asyncio.sleep(0)
    pass_by("middleware.after")
    return result


@plain_worker.middleware
def through_in_thread(delivery: Delivery, call_next: Callable[[Delivery], Any]) -> Any:
    """Be around the plain handler, in its thread."""
    pass_by("middleware.before")
    try:
        return call_next(delivery)
    finally:
        pass_by("middleware.after")


# --- What all do ---


def begin(delivery: Delivery) -> tuple[int, str]:
    """Note the start; give its time and the digest of what came, which is another where its headers are not its own."""
    own = {name: text for name, text in delivery.headers.items() if name != TRACE}
    seen = digest(delivery.request if own == delivery.request["headers"] else (delivery.request, own))
    return delivery.state["log"].note("start", delivery.id, delivery.attempt, seen), seen


def seconds(delivery: Delivery) -> float:
    """Say how long this attempt shall take; one that hangs overruns its timeout, and says so before."""
    do, body = told(delivery), delivery.request
    if do == "hang":
        log.note("hang", delivery.id, delivery.attempt)
        return _HANG
    return float(body["seconds"] if do in ("long", "cancel") else body["ms"] / 1000)


def hold_the_loop(seconds: float) -> None:
    """Let nobody else have the loop; say so, as it makes others late."""
    began = time.monotonic_ns()
    time.sleep(seconds)
    note(Part.mine().folder, Occurrence(LOOP_HELD, log.process, began, time.monotonic_ns()))


def finish(delivery: Delivery, began: int, seen: str, do: str) -> dict[str, Any]:
    """Note the end and give the result, or fail as told."""
    if do in _RAISED:
        log.note(_RAISED[do], delivery.id, delivery.attempt)
        raise planned_error(do, delivery.attempt)
    log.note("end", delivery.id, delivery.attempt, seen, began)
    return {"attempt": delivery.attempt, "digest": seen}


def aftermath(delivery: Delivery) -> str:
    """Say what a handler does that was cancelled."""
    pass_by("cancel.told")
    return str(delivery.request["then"]) if told(delivery) == "cancel" else "stop"


# --- The handlers ---


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
        do = aftermath(delivery)
        if do == "stop":
            log.note("cancelled", delivery.id, delivery.attempt)
            raise
    if do == "fork":
        end_a_child()
        if is_forked_child():
            return {}
    return finish(delivery, began, seen, do)


@plain_worker.handler("plain", concurrency=8, timeout=TIMEOUT)
def work_in_thread(delivery: Delivery) -> dict[str, Any]:
    """Work in a thread."""
    began, seen = begin(delivery)
    do = told(delivery)
    if do == "cancel" and delivery.wait_cancelled(seconds(delivery)):
        do = aftermath(delivery)
        do = "fail" if do == "stop" else do
    elif do != "cancel":
        time.sleep(seconds(delivery))
    if do == "thread":
        thread = threading.Thread(target=time.sleep, args=(delivery.request["seconds"],))
        thread.start()
        thread.join()
    elif do == "fork":
        end_a_child()
        if is_forked_child():
            return {}
    return finish(delivery, began, seen, do)


@worker.handler("rows", batch=20, linger=0.02, timeout=TIMEOUT)
async def work_on_many(batch: list[Delivery]) -> list[Any]:
    """Work on many at once; each has its own end, unless one spoils it for all."""
    begun = [begin(delivery) for delivery in batch]
    await asyncio.sleep(min(_LONGEST_BATCH, max(delivery.request["ms"] for delivery in batch) / 1000))
    await _wait_for_cancel([delivery for delivery in batch if told(delivery) == "cancel"])
    spoilt = any(told(delivery) == "spoil" for delivery in batch)
    ends: list[Any] = []
    for delivery, (began, seen) in zip(batch, begun, strict=True):
        do = "spoil" if spoilt else told(delivery)
        try:
            ends.append(finish(delivery, began, seen, "fail" if delivery.cancelled and do != "spoil" else do))
        except Exception as error:
            ends.append(error)
        pass_by("batch.middle")
    if spoilt:
        raise planned_error("spoil", batch[0].attempt)
    return ends


async def _wait_for_cancel(deliveries: list[Delivery]) -> None:
    """Give those a lease's time to be cancelled that wait for it."""
    end = time.monotonic() + LEASE
    while time.monotonic() < end and not all(delivery.cancelled for delivery in deliveries):
        await asyncio.sleep(0.02)
    for delivery in deliveries:
        if delivery.cancelled:
            pass_by("cancel.told")


if __name__ == "__main__":
    sys.exit(run_together([worker, plain_worker]))
