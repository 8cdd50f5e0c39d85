"""Redis is killed and stopped under gateways; they say so, fail closed, recover, and lose nothing that they took."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from redisq import RedisQ
from redisq.operations import applications
from redisq.tokens.applications import MasterKey
from tests.conftest import REAL_SERVERS, settings_for
from tests.gateway.conftest import MASTER
from tests.support.gateways.processes import PATIENCE, Fleet, Gate
from tests.support.servers.own_server import OwnServer, binary_of
from tests.support.servers.proxy import until

pytestmark = pytest.mark.system

NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]
HASTY = {"REDISQ_RETRY_DEADLINE": "0.5", "REDISQ_COMMAND_TIMEOUT": "1", "REDISQ_HTTP_REGISTRY_STALE_AFTER": "5"}


@pytest.fixture(params=REAL_SERVERS[:1] or NONE)
def own(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    """A Redis of the test's own, each of whose writes is on disk at its reply."""
    with tempfile.TemporaryDirectory(prefix="rq") as folder:  # not tmp_path: a socket's path must be short
        server = OwnServer(binary_of(request.param), Path(folder), appendonly="yes", appendfsync="always")
        server.start()
        yield server
        server.kill()


@pytest.fixture
def fleet(own: OwnServer, namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(settings_for(own.url, namespace, master_key=MASTER.text()), tmp_path)
    yield fleet
    fleet.close()


class Client(threading.Thread):
    """Queues without a pause, each message with an id of its own, again and again until it is taken."""

    def __init__(self, gates: list[Gate], token: str) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.refusals: list[httpx.Response] = []
        self._gates = gates
        self._headers = {"Authorization": f"Bearer {token}"}
        self._ended = threading.Event()

    def run(self) -> None:
        with httpx.Client(headers=self._headers, timeout=PATIENCE) as http:
            while not self._ended.is_set():
                self._queue(http, str(uuid.uuid4()))

    def _queue(self, http: httpx.Client, id: str) -> None:
        for number in range(10**6):
            answer = http.put(f"{self._gates[number % len(self._gates)].url}/orders/{id}", json={"id": id})
            if answer.status_code in (200, 201):
                self.taken.append(id)
                return
            self.refusals.append(answer)
            if self._ended.wait(0.02):
                return

    def end(self) -> None:
        self._ended.set()
        self.join()


def shape(answer: httpx.Response) -> tuple[int, str, bool]:
    return answer.status_code, answer.json()["error"]["code"], int(answer.headers["Retry-After"]) >= 1


@pytest.mark.full
def test_redis_is_gone_and_comes_back(
    own: OwnServer, fleet: Fleet, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    gates = [fleet.add(**HASTY), fleet.add(**HASTY)]
    token = fleet.sign(fleet.create("shop"))
    for gate in gates:
        until(lambda gate=gate: gate.status("/orders", token) == 200, PATIENCE)
    clients = [Client(gates, token), Client(gates[::-1], token)]
    for client in clients:
        client.start()
    longest, outages = 0.0, scaled(20, 2)
    try:
        for outage in range(outages):
            taken = [len(client.taken) for client in clients]
            until(lambda taken=taken: all(len(c.taken) > n + 50 for c, n in zip(clients, taken, strict=True)), PATIENCE)
            own.kill()
            for gate in gates:
                until(lambda gate=gate: gate.status("/_ready") == 503, PATIENCE)
                assert shape(gate.ask("GET", "/_ready")) == (503, "unavailable", True)
                assert gate.status("/_health") == 200
                assert shape(gate.ask("GET", f"/orders/{uuid.uuid4()}", token)) == (503, "unavailable", True)
                if outage == 0:  # a gateway that knows nothing any more tells nobody from anybody
                    until(lambda gate=gate: gate.status("/orders", "garbage") == 503, PATIENCE)
                    form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": "x"}
                    assert shape(gate.ask("POST", "/_token", data=form)) == (503, "unavailable", True)
                    assert gate.status("/_health") == 200
            own.start()
            began = time.monotonic()
            for gate in gates:
                until(lambda gate=gate: gate.status("/_ready") == 200, PATIENCE)
                until(lambda gate=gate: gate.status("/orders", token) == 200, PATIENCE)
            longest = max(longest, time.monotonic() - began)
    finally:
        for client in clients:
            client.end()
    taken_ids = [id for client in clients for id in client.taken]
    with RedisQ(settings=fleet.settings) as mq:
        assert mq.stats("orders").queued >= len(taken_ids) == len(set(taken_ids))
        assert None not in mq.get_messages("orders", taken_ids)
        sent = len(taken_ids) + len(clients)  # each may have one that was never answered
        assert mq.stats("orders").queued <= sent
    refusals = [answer for client in clients for answer in client.refusals]
    assert {shape(answer)[0] for answer in refusals} == {503}
    assert all(shape(answer)[2] for answer in refusals)
    assert {answer.json()["error"]["code"] for answer in refusals} <= {"unavailable", "indeterminate"}
    figure(f"Redis killed {outages} times under two gateways: ready again {longest:.1f} s after it, at most")


@pytest.mark.full
def test_redis_stands_still_and_goes_on(own: OwnServer, fleet: Fleet) -> None:
    gate = fleet.add(**HASTY)
    token = fleet.sign(fleet.create("shop"))
    until(lambda: gate.status("/orders", token) == 200, PATIENCE)
    client = Client([gate], token)
    client.start()
    try:
        until(lambda: len(client.taken) > 50, PATIENCE)
        own.signal(signal.SIGSTOP)
        until(lambda: gate.status("/_ready") == 503, PATIENCE)
        assert gate.status("/_health") == 200
        assert shape(gate.ask("GET", f"/orders/{uuid.uuid4()}", token)) == (503, "unavailable", True)
        until(lambda: client.refusals, PATIENCE)
        own.signal(signal.SIGCONT)
        until(lambda: gate.status("/_ready") == 200, PATIENCE)
        taken = len(client.taken)
        until(lambda: len(client.taken) > taken + 50, PATIENCE)
    finally:
        own.signal(signal.SIGCONT)
        client.end()
    with RedisQ(settings=fleet.settings) as mq:
        assert None not in mq.get_messages("orders", client.taken)
        assert mq.stats("orders").queued <= len(client.taken) + 1, "what was sent twice is there once"
    assert {shape(answer)[0] for answer in client.refusals} == {503}


def test_a_gateway_that_starts_without_redis_serves_when_it_comes(own: OwnServer, fleet: Fleet) -> None:
    shop = fleet.create("shop")
    own.kill()
    gate = fleet.add(**HASTY)
    token = fleet.sign(shop)
    assert gate.status("/_health") == 200
    assert gate.status("/_ready") == 503
    assert shape(gate.ask("GET", "/orders", token)) == (503, "unavailable", True)
    own.start()
    fleet.mq.define("orders", lease=30)
    until(lambda: gate.status("/orders", token) == 200, PATIENCE)
    assert gate.status("/_ready") == 200
    assert gate.stop() == 0
    assert "the registry of applications cannot be read" in gate.logged()
    assert "Traceback" not in gate.logged()


@pytest.mark.full
def test_a_gateway_that_stood_still_knows_that_it_knows_nothing(own: OwnServer, fleet: Fleet) -> None:
    """It goes on after a revocation that it has not seen: its first answer already must not let the token in."""
    gate = fleet.add(**HASTY)
    token = fleet.sign(fleet.create("shop"))
    until(lambda: gate.status("/orders", token) == 200, PATIENCE)
    gate.signal(signal.SIGSTOP)
    fleet.mq._run(applications.revoke(fleet.settings, "shop", token))
    time.sleep(float(HASTY["REDISQ_HTTP_REGISTRY_STALE_AFTER"]) + 0.5)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(gate.status, "/orders", token) for _ in range(20)]
        gate.signal(signal.SIGCONT)
        assert {one.result() for one in waiting} <= {401, 503}
    until(lambda: gate.status("/orders", token) == 401, PATIENCE)


# --- Master keys ---


@pytest.mark.full
def test_a_master_key_is_rotated_one_gateway_after_another(own: OwnServer, fleet: Fleet) -> None:
    """Who has both, in whichever order, knows everybody throughout; who has one alone knows whom that one made."""
    new = MasterKey.generate()
    both = f"{new.text()},{MASTER.text()}"
    ahead = fleet.add(REDISQ_MASTER_KEY=both)
    prepared = fleet.add(REDISQ_MASTER_KEY=f"{MASTER.text()},{new.text()}")
    behind = fleet.add()
    old = fleet.create("shop")
    token = fleet.sign(old)
    for gate in (ahead, prepared, behind):
        until(lambda gate=gate: gate.status("/orders", token) == 200, PATIENCE)
    settings = settings_for(own.url, fleet.settings.namespace, master_key=both)
    with RedisQ(settings=settings) as office:
        rotated = office._run(applications.rotate(settings, "shop", 3600))
        fresh = fleet.sign(rotated.credentials)
        for gate in (ahead, prepared):
            until(lambda gate=gate: gate.status("/orders", fresh) == 200, PATIENCE)
            assert gate.status("/orders", token) == 200, "the old secret goes on for its overlap"
        until(lambda: behind.status("/orders", token) == 401, PATIENCE)
        assert behind.status("/orders", fresh) == 401
        until(lambda: "the record of application shop does not verify with REDISQ_MASTER_KEY" in behind.logged())
        assert behind.status("/_ready") == 503
        assert "does not verify" not in ahead.logged() + prepared.logged()
    last = fleet.add(REDISQ_MASTER_KEY=new.text())
    until(lambda: last.status("/orders", fresh) == 200, PATIENCE)
    assert last.status("/orders", token) == 401, "the master key that made it is in force no longer"
    logged = "".join(gate.logged() for gate in fleet.gates)
    for key in (new, MASTER):
        assert key.text().split(".")[2] not in logged


def test_a_wrong_master_key_is_told_of(own: OwnServer, fleet: Fleet) -> None:
    shop = fleet.create("shop")
    wrong = fleet.add(REDISQ_MASTER_KEY=MasterKey.generate().text())
    assert wrong.status("/orders", fleet.sign(shop)) == 401
    until(lambda: "the record of application shop does not verify with REDISQ_MASTER_KEY" in wrong.logged())
    assert wrong.logged().count("does not verify") == 1
    assert shape(wrong.ask("GET", "/_ready")) == (503, "unavailable", True)
    assert wrong.status("/_health") == 200
    right = fleet.add()
    assert right.status("/_ready") == 200
