"""The example of a worker in JavaScript: it works, and what one that is killed held is done by another."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redisq import RedisQ, Status
from tests.gateway.conftest import QUEUE, Office
from tests.gateway.test_claims_wire import Served, make_served, until

WORKER = Path(__file__).parents[2] / "deploy" / "example" / "worker.mjs"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="no Node here (node is not on PATH)")
__all__ = ["make_served"]


class NodeWorker:
    """One process of the example; `started` are the lines it prints."""

    def __init__(self, served: Served, **environment: str) -> None:
        assert NODE is not None
        self.started: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [NODE, str(WORKER)],
            env={"PATH": os.environ["PATH"], "REDISQ_GATEWAY": served.url, "REDISQ_QUEUE": QUEUE, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.started.put(line.split()[1])

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


MakeWorker = Callable[..., NodeWorker]


@pytest.fixture
def make_worker() -> Iterator[MakeWorker]:
    """Start workers; those still alive at the end are killed."""
    made: list[NodeWorker] = []

    def make(served: Served, **environment: str) -> NodeWorker:
        made.append(NodeWorker(served, **environment))
        return made[-1]

    yield make
    for worker in made:
        if worker.process.poll() is None:
            worker.end(signal.SIGKILL)


def test_it_gets_a_token_and_works(make_served: Callable[..., Served], office: Office, make_worker: MakeWorker) -> None:
    own = office.create("shop", f"work:{QUEUE}")
    served = make_served(office.gateway)
    worker = make_worker(served, REDISQ_APP_ID=own.app, REDISQ_APP_SECRET=own.secret())
    mq = served.gateway.mq
    ids = mq.queue_messages(QUEUE, [{"seconds": 0}] * 9)
    messages = [mq.get_message(QUEUE, id, wait=20) for id in ids]
    assert {message.status for message in messages} == {Status.COMPLETE}
    assert {message.result["slept"] for message in messages} == {0}
    assert worker.end(signal.SIGTERM) == 0


@pytest.mark.full
def test_what_a_killed_one_held_is_done_by_another(make_served: Callable[..., Served], make_worker: MakeWorker) -> None:
    served = make_served()
    mq: RedisQ = served.gateway.mq
    mq.define(QUEUE, lease=1)
    workers = [make_worker(served, REDISQ_TOKEN=served.gateway.token(ops=["work"])) for _ in range(2)]
    ids = mq.queue_messages(QUEUE, [{"seconds": 0.3}] * 24)
    victim, survivor = workers
    victim.started.get(timeout=20)
    survivor.started.get(timeout=20)
    victim.end(signal.SIGKILL)
    until(lambda: mq.stats(QUEUE).completed == len(ids))
    messages = [mq.get_message(QUEUE, id) for id in ids]
    repeated = [message for message in messages if message.attempts > 1]
    assert {message.status for message in messages} == {Status.COMPLETE}
    assert repeated
    for message in messages:
        events = [step.event for step in message.history]
        assert events == ["lost", "reclaimed"] * (message.attempts - 1)
    for message in repeated:
        assert message.history[0].by == f"tests:node-{victim.process.pid}"
    assert survivor.end(signal.SIGTERM) == 0
