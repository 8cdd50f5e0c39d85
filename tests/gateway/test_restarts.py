"""Gateways are stopped and killed in turn while clients queue and workers work: nothing is lost, nothing doubled."""

from __future__ import annotations

import secrets
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from redisq import Delivery, RedisQ, Status, Worker, embedded
from tests.conftest import settings_for
from tests.gateway.conftest import MASTER
from tests.support.gateways.processes import PATIENCE, Fleet, Gate
from tests.support.servers.proxy import until
from tests.support.workers.spawned import working

pytestmark = pytest.mark.system

CLIENTS = 4
OVER_HTTP, IN_PYTHON = "orders", "parcels"  # queues, by their workers


@pytest.fixture
def fleet(real_server: embedded.EmbeddedServer, namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(settings_for(real_server.url, namespace, master_key=MASTER.text()), tmp_path)
    yield fleet
    fleet.close()


class Caller(threading.Thread):
    """Whoever calls gateways without a pause, and turns to another one when a call fails, until told to end."""

    def __init__(self, gates: list[Gate], token: str) -> None:
        super().__init__()
        self.failures: Counter[str] = Counter()
        self.ended = threading.Event()
        self._gates = gates
        self._http = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE)

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Send a request again and again until a gateway answers it."""
        while True:
            self._gates = self._gates[1:] + self._gates[:1]
            try:
                answer = self._http.request(method, self._gates[0].url + path, **how)
            except httpx.TransportError as error:
                self.failures[type(error).__name__] += 1
                self.failed(path)
            else:
                if answer.status_code < 500:
                    return answer
                self.failures[f"{answer.status_code} {answer.json()['error']['code']}"] += 1
                self.failed(path)
            time.sleep(0.01)

    def failed(self, path: str) -> None:
        """Take note that a request was not answered by what it asked for."""

    def close(self) -> None:
        self.ended.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        self._http.close()


class Client(Caller):
    """Queues messages, by an id of its own and by an idempotency key in turn."""

    def __init__(self, gates: list[Gate], token: str) -> None:
        super().__init__(gates, token)
        self.taken: list[tuple[str, str]] = []

    def run(self) -> None:
        for number in range(10**6):
            if self.ended.is_set():
                return
            queue, id = (OVER_HTTP, IN_PYTHON)[number // 2 % 2], str(uuid.uuid4())
            if number % 2:
                answer = self.call("PUT", f"/{queue}/{id}", json={"n": number})
            else:
                answer = self.call("POST", f"/{queue}", json={"n": number}, headers={"Idempotency-Key": id})
            assert answer.status_code in (200, 201), answer.text
            self.taken.append((queue, answer.json()["id"]))


class HttpWorker(Caller):
    """Works by claims; what it repeats, it repeats as the same claim."""

    def __init__(self, gates: list[Gate], token: str, name: str) -> None:
        super().__init__(gates, token)
        self.executed: list[str] = []
        self.name = name

    def run(self) -> None:
        while not self.ended.is_set():
            asked = {"max": 10, "wait": 1, "worker": self.name, "claim": secrets.token_urlsafe(9)}
            for delivery in self.call("POST", f"/{OVER_HTTP}/_claim", json=asked).json()["deliveries"]:
                self.executed.append(delivery["id"])
                path, receipt = f"/{OVER_HTTP}/{delivery['id']}/_complete", {"receipt": delivery["receipt"]}
                answer = self.call("POST", path, json=receipt)
                assert answer.status_code == 204, answer.text


class Careful(Client):
    """Looks whether a request that failed has done anything, before it sends it to another gateway."""

    def __init__(self, gates: list[Gate], token: str, mq: RedisQ) -> None:
        super().__init__(gates, token)
        self.broken: list[str] = []
        self._mq = mq

    def failed(self, path: str) -> None:
        _, queue, *id = path.split("/")
        if id and self._mq.get_messages(queue, id) != [None]:
            self.broken.append(path)


def restarted(gates: list[Gate], times: int, numbers: list[signal.Signals], busy: Callable[[], int]) -> None:
    """Restart one gateway after another, each when more work was done since."""
    for number in range(times):
        done = busy()
        until(lambda done=done: busy() >= done + 20, PATIENCE)
        gate, how = gates[number % len(gates)], numbers[number // len(gates) % len(numbers)]
        code = gate.stop(how)
        assert code == (0 if how == signal.SIGTERM else -how)
        gate.start()


@pytest.mark.full
def test_restarts_under_load_lose_nothing_and_double_nothing(
    fleet: Fleet, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    restarts = scaled(200, 6)
    gates = [fleet.add(), fleet.add()]
    token = fleet.sign(fleet.create("shop"), ttl=86_400)
    for gate in gates:
        until(lambda gate=gate: gate.status("/orders", token) == 200, PATIENCE)
    clients = [Client(gates[n % 2 :] + gates[: n % 2], token) for n in range(CLIENTS)]
    workers = [HttpWorker(gates, token, f"w{n}") for n in range(2)]
    executed: list[str] = []
    python = Worker(settings=fleet.settings)

    @python.handler(IN_PYTHON, concurrency=20)
    async def handle(delivery: Delivery) -> None:
        executed.append(delivery.id)

    with working(python):
        for one in [*clients, *workers]:
            one.start()
        try:
            restarted(gates, restarts, [signal.SIGTERM, signal.SIGKILL], lambda: sum(len(c.taken) for c in clients))
        finally:
            for client in clients:
                client.close()
        taken = [one for client in clients for one in client.taken]
        ids = {queue: [id for name, id in taken if name == queue] for queue in (OVER_HTTP, IN_PYTHON)}
        for queue, queued in ids.items():
            until(lambda queue=queue, queued=queued: fleet.mq.stats(queue).completed >= len(queued), PATIENCE)
        for worker in workers:
            worker.close()
    executed += [id for worker in workers for id in worker.executed]
    assert Counter(executed) == dict.fromkeys((id for _, id in taken), 1), "each that was taken, once"
    for queue, queued in ids.items():
        messages = fleet.mq.get_messages(queue, queued)
        assert {message.status for message in messages if message} == {Status.COMPLETE}
        stats = fleet.mq.stats(queue)
        assert (stats.queued, stats.completed, stats.dead, stats.in_progress) == (len(queued), len(queued), 0, 0)
    failures = sum((one.failures for one in [*clients, *workers]), Counter[str]())
    figure(f"{restarts} restarts of two gateways under {len(taken):,} messages: 0 lost, 0 doubled; {dict(failures)}")


@pytest.mark.full
def test_a_gateway_that_is_stopped_answers_all_that_it_has_begun(
    fleet: Fleet, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """By SIGTERM no answer is lost: a request that fails was never begun, so that sending it elsewhere is safe."""
    restarts = scaled(200, 6)
    gates = [fleet.add(), fleet.add()]
    token = fleet.sign(fleet.create("shop"), ttl=86_400)
    for gate in gates:
        until(lambda gate=gate: gate.status("/orders", token) == 200, PATIENCE)
    clients = [Careful(gates[n % 2 :] + gates[: n % 2], token, fleet.mq) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        restarted(gates, restarts, [signal.SIGTERM], lambda: sum(len(client.taken) for client in clients))
    finally:
        for client in clients:
            client.close()
    assert [path for client in clients for path in client.broken] == []
    taken = sum(len(client.taken) for client in clients)
    assert sum(fleet.mq.stats(queue).queued for queue in (OVER_HTTP, IN_PYTHON)) == taken
    for gate in gates:
        assert gate.stop() == 0
        assert "Traceback" not in gate.logged()
        assert "cutting" not in gate.logged()
    failures = sum((client.failures for client in clients), Counter[str]())
    figure(f"{restarts} restarts by SIGTERM under {taken:,} messages: no answer lost; {dict(failures)}")
