"""A message that takes its worker down each time ends as a dead letter, and none of those beside it is charged."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from redisq import RedisQ, Status
from tests.system.conftest import Crew, eventually

MAX_LOST = 5  # the default


@contextmanager
def replaced(crew: Crew, workers: int) -> Iterator[None]:
    """Keep that many worker processes running, as a supervisor does; end them in the end."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            alive = [process for process in crew.processes if process.poll() is None]
            for _ in range(workers - len(alive)):
                crew.start()

    supervisor = threading.Thread(target=watch)
    supervisor.start()
    yield
    ended.set()
    supervisor.join()
    for process in crew.processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    assert {process.wait() for process in crew.processes} == {0, -signal.SIGKILL}


@pytest.mark.full
def test_it_alone_is_charged(make_crew: Callable[..., Crew], producer: RedisQ) -> None:
    crew = make_crew(lease=1)
    poison, *others = producer.queue_messages(
        "tasks", [{"kill": True}, *({"sleep": 0.05 * (n % 20), "n": n} for n in range(999))]
    )
    with replaced(crew, workers=2):
        dead = eventually(lambda: producer.get_message("tasks", poison).finished, "the end of the poison")
        assert dead
        messages = [producer.get_message("tasks", id, wait=30) for id in others]
    message = producer.get_message("tasks", poison)
    assert (message.status, message.attempts) == (Status.ERROR, MAX_LOST)
    assert message.error is not None
    assert message.error["reason"] == "lost"
    assert [step.event for step in message.history] == ["lost", "reclaimed"] * (MAX_LOST - 1) + ["lost"]
    assert {message.status for message in messages} == {Status.COMPLETE}
    # Whoever was beside it the first time was beside it once more at most, and was charged with nothing.
    stats = producer.stats("tasks")
    assert (stats.dead, stats.failed, stats.completed) == (1, 0, 999)
    assert max(message.attempts for message in messages) <= 3
    assert crew.count("start")[poison] == MAX_LOST
