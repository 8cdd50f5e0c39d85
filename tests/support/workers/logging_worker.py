"""A worker, run as a process of its own: `python logging_worker.py`. Handlers log starts and ends to CREW_LOG."""

import asyncio
import os
import signal
import sys
import time

from redisq import Delivery, Worker

worker = Worker()


def note(event: str, delivery: Delivery) -> None:
    line = f"{event} {delivery.id} {delivery.attempt} {os.getpid()}\n"
    log = os.open(os.environ["CREW_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)


@worker.handler("tasks", concurrency=int(os.environ.get("CREW_CONCURRENCY", "50")))
async def work(delivery: Delivery) -> dict[str, int]:
    note("start", delivery)
    if delivery.request.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        await asyncio.sleep(delivery.request.get("sleep", 0))
    except asyncio.CancelledError:
        note("cancelled", delivery)
        raise
    if delivery.request.get("fail"):
        raise ValueError("told to fail")
    note("end", delivery)
    return {"n": delivery.request.get("n", 0)}


def work_in_thread(delivery: Delivery) -> dict[str, int]:
    note("start", delivery)
    until = time.monotonic() + delivery.request.get("sleep", 0)
    while time.monotonic() < until and not (delivery.cancelled and delivery.request.get("polite")):
        time.sleep(0.01)
    note("cancelled" if delivery.cancelled else "end", delivery)
    return {"n": delivery.request.get("n", 0)}


if not os.environ.get("CREW_ONE_QUEUE"):
    worker.handler("plain", concurrency=4, timeout=float(os.environ.get("CREW_TIMEOUT", "60")))(work_in_thread)

if __name__ == "__main__":
    sys.exit(worker.run(burst="--burst" in sys.argv))
