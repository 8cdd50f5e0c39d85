"""Forks workers quickly: `python spawner.py` forks one for each line it reads, and tells how each ends.

    it reads            start
    it writes           began PID
    and later           ended PID CODE     negative for a signal

Handlers log to NURSERY_LOG: event, id, attempt, process id, time. The workers' own log goes to NURSERY_LOG.warnings.
When its input ends, as it does when the test dies, it kills whoever is left and ends.
"""

import asyncio
import logging
import os
import select
import signal
import sys
import time

from redisq import Delivery, Worker


def note(event: str, delivery: Delivery) -> None:
    """Log with one write, so that what is logged is there when the process is killed the next moment."""
    os.write(_log, f"{event} {delivery.id} {delivery.attempt} {os.getpid()} {time.time():.6f}\n".encode())


async def handle(delivery: Delivery) -> int:
    """Sleep `sleep` seconds; with `kill`, at the first attempt, take the worker down with it; with `fail`, fail."""
    note("start", delivery)
    await asyncio.sleep(delivery.request.get("sleep", 0))
    if delivery.request.get("kill") and delivery.attempt == 1:
        note("kill", delivery)
        os.kill(os.getpid(), signal.SIGKILL)
    if delivery.request.get("fail"):
        raise ValueError("no stock")
    note("end", delivery)
    return delivery.attempt


def work() -> int:
    """Be a worker."""
    logging.basicConfig(filename=os.environ["NURSERY_LOG"] + ".warnings", format="%(process)d %(message)s")
    worker = Worker()
    worker.handler("tasks", concurrency=int(os.environ["NURSERY_CONCURRENCY"]))(handle)
    return worker.run()


def fork() -> int:
    """Start a worker, and give its process id."""
    pid = os.fork()
    if not pid:
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


def main() -> None:
    """Fork and tell until the input ends."""
    alive: set[int] = set()
    while True:
        readable, _, _ = select.select([0], [], [], 0.01)
        lines = os.read(0, 4096) if readable else None
        if lines == b"":
            break
        for _ in (lines or b"").splitlines():
            alive.add(pid := fork())
            os.write(1, f"began {pid}\n".encode())
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                alive.discard(pid)
                os.write(1, f"ended {pid} {os.waitstatus_to_exitcode(status)}\n".encode())
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    _log = os.open(os.environ["NURSERY_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    sys.exit(main())
