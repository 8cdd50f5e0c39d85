"""Redis is away for longer than the leases: nothing is doubled, nobody sees an error, and nobody storms its return."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from redisq import RedisQ, Status
from tests.conftest import Raw
from tests.delivery.conftest import QUEUE, messages
from tests.support.servers.own_server import OwnServer
from tests.support.servers.proxy import until
from tests.support.workers.spawned import PATIENCE, Nursery

HANDLERS, WORKERS, CALLERS = 100, 4, 10


class Callers:
    """Threads that queue a message twenty times a second each, in one process."""

    def __init__(self, raw: Raw) -> None:
        self.client = RedisQ(settings=raw.settings)
        self.ended = threading.Event()
        self.ids: list[str] = []
        self.errors: list[Exception] = []
        self.threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def _call(self) -> None:
        while not self.ended.wait(0.05):
            try:
                self.ids.append(self.client.queue_message("others", 1))
            except Exception as error:
                self.errors.append(error)

    def end(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()
        self.client.close()


def watch(server: OwnServer, seconds: float) -> tuple[int, list[int]]:
    """Count the commands of so many seconds, and the connections in each tenth of one."""
    before, connections, end = server.commands(), [1], time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        connections.append(server.admin.info("stats")["total_connections_received"])
    new = [later - earlier for earlier, later in pairwise(connections)]
    return server.commands() - before, new


@pytest.mark.full
def test_an_outage_doubles_nothing_and_ends_quietly(
    own_server: Callable[..., OwnServer],
    below: Callable[..., Raw],
    nursery: Callable[..., Nursery],
    scaled: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """Some handlers end while Redis is away, some after its return."""
    outage, lease, window = scaled(60, 6), scaled(30, 3), scaled(20, 3)
    server = own_server(appendonly="yes", appendfsync="always")
    raw = below(server, lease=lease, retry_deadline=outage + PATIENCE)
    crew = nursery(raw, HANDLERS // WORKERS)
    workers = [crew.start() for _ in range(WORKERS)]
    with RedisQ(settings=raw.settings) as client:
        sleeps = [window + 1 + outage * (0.1 + 1.1 * n / HANDLERS) for n in range(HANDLERS)]
        ids = client.queue_messages(QUEUE, [{"sleep": sleep} for sleep in sleeps])
        until(lambda: len(crew.count("start")) == HANDLERS, PATIENCE)
        callers = Callers(raw)
        try:
            until(lambda: len(callers.ids) > CALLERS, PATIENCE)
            normal, _ = watch(server, window)
            server.kill()
            time.sleep(outage)
            ended = len(crew.count("end"))
            server.start()
            afterwards, connections = watch(server, window)
        finally:
            callers.end()
        assert callers.errors == []
        assert 0 < ended < HANDLERS
        until(lambda: client.stats(QUEUE).completed == HANDLERS, PATIENCE)
        stats = client.stats(QUEUE)
        assert client.stats("others").ready == len(set(callers.ids)) == len(callers.ids)
    for pid in workers:
        assert crew.end(pid, signal.SIGTERM) == 0
    assert crew.count("start") == crew.count("end") == dict.fromkeys(ids, 1)
    assert {(message.status, message.attempts) for message in messages(raw, ids)} == {(Status.COMPLETE, 1)}
    assert (stats.lost, stats.failed, stats.released, stats.dead) == (0, 0, 0, 0)
    assert afterwards < 2 * normal
    figure(
        f"an outage of {outage} s (lease {lease} s, {HANDLERS} running handlers, {CALLERS} callers): 0 repeated, "
        f"0 errors; commands in the {window} s after it {afterwards / normal:.2f} x normal (target 1.2); "
        f"{sum(connections)} connections, at most {max(connections)} in 0.1 s"
    )
