"""Workers are replaced one after another while messages come in, as when a new version is rolled out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from redisq import Message, RedisQ, Status, embedded
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages, spread
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, Nursery

WORKERS = 3
GAP = 0.005  # seconds between two messages


class Producer(threading.Thread):
    """Queues a message every few milliseconds until told to end."""

    def __init__(self, raw: Raw) -> None:
        super().__init__()
        self.raw = raw
        self.ids: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        with RedisQ(settings=self.raw.settings) as client:
            while not self.ended.wait(GAP):
                self.ids.append(client.queue_message(QUEUE, {"sleep": 0.02}))

    def end(self) -> None:
        self.ended.set()
        self.join()


def waits(ended: list[Message]) -> list[float]:
    """How long each message waited until it was started, in seconds by the server's clock."""
    return [(message.started_at - message.queued_at).total_seconds() for message in ended]  # type: ignore[operator]


@pytest.mark.full
def test_restarts_under_load_repeat_nothing(
    real_server: embedded.EmbeddedServer,
    below: Callable[..., Raw],
    nursery: Callable[..., Nursery],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    restarts = scaled(200, 6)
    raw = below(real_server)
    crew, producer = nursery(raw, 20), Producer(raw)
    alive = [crew.start() for _ in range(WORKERS)]
    producer.start()
    try:
        until(lambda: len(producer.ids) >= 200, PATIENCE)
        undisturbed = len(producer.ids)
        for _ in range(restarts):
            assert crew.end(alive.pop(0), signal.SIGTERM) == 0
            alive.append(crew.start())
            until(lambda pid=alive[-1]: any(event.pid == pid for event in crew.events()), PATIENCE)
    finally:
        producer.end()
    ids = producer.ids
    with RedisQ(settings=raw.settings) as client:
        until(lambda: client.stats(QUEUE).completed == len(ids), PATIENCE)
        stats = client.stats(QUEUE)
    for pid in alive:
        assert crew.end(pid, signal.SIGTERM) == 0
    assert crew.count("start") == crew.count("end") == dict.fromkeys(ids, 1)
    assert (stats.failed, stats.lost, stats.dead, stats.in_progress) == (0, 0, 0, 0)
    ended = messages(raw, ids)
    assert {message.status for message in ended} == {Status.COMPLETE}
    figure(
        f"{restarts:,} restarts by SIGTERM under {len(ids):,} messages: 0 repeated; wait until started "
        f"{spread(waits(ended[undisturbed:]))}; without restarts {spread(waits(ended[:undisturbed]))}"
    )
