"""Claims on the wire: long waits, clients that go away in the middle of them, and a gateway that is stopped."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from redisq import RedisQ, Status
from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway

LONG = 25  # seconds: no test waits for so long, unless something is broken
RACES = 200
OPTIONS = GatewaySettings(port=0, connections_per_address=1000)


class Served:
    """A gateway on a port, served in a thread."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.clients: list[Client] = []
        self.url = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(20)
        self.port = int(self.url.rpartition(":")[2])

    async def _serve(self) -> None:
        context = self.gateway.context
        self._loop = asyncio.get_running_loop()
        async with running(self.gateway.app, OPTIONS, context.stopping) as self.url:
            self._started.set()
            await context.stopping.wait()

    def stop(self) -> None:
        """Stop as SIGTERM does: the waits end, then the requests, then all else."""
        self._loop.call_soon_threadsafe(self.gateway.context.stopping.set)
        self._thread.join()

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
        for client in self.clients:
            client.close()


class Client:
    """A client with a connection of its own, that can go away when it likes."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=60)
        served.clients.append(self)

    def send(self, path: str, body: Any, token: str | None = "", method: str = "POST") -> None:
        content = json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(content)}"]
        head.append("Content-Type: application/json")
        if token is not None:
            head.append(f"Authorization: Bearer {token or self.served.gateway.token()}")
        self.socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + content)

    def answer(self) -> tuple[int, Any]:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self._more()
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        while len(body) < length:
            body += self._more()
        return int(lines[0].split()[1]), json.loads(body) if body else None

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed")
        return data

    def post(self, path: str, body: Any, token: str | None = "") -> tuple[int, Any]:
        self.send(path, body, token)
        return self.answer()

    def claim(self, **body: Any) -> list[dict[str, Any]]:
        status, answer = self.post(f"/{QUEUE}/_claim", body)
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["deliveries"]
        return found

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def make_served(make_gateway: MakeGateway) -> Iterator[Callable[..., Served]]:
    """Serve gateways."""
    made: list[Served] = []

    def make(gateway: Gateway | None = None) -> Served:
        made.append(Served(gateway or make_gateway()))
        return made[-1]

    yield make
    for served in made:
        served.close()


@pytest.fixture
def served(make_served: Callable[..., Served]) -> Served:
    """A gateway on a port."""
    return make_served()


@pytest.fixture
def mq(served: Served) -> RedisQ:
    """A client of the same Redis."""
    return served.gateway.mq


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def listeners(served: Served) -> int:
    """How many wait for the bell of this test's queue."""
    settings = served.gateway.context.settings
    with Redis.from_url(settings.url, decode_responses=True) as redis:
        return sum(client["cmd"] == "blpop" for client in redis.client_list())


def waits(served: Served) -> int:
    """How many requests wait for something."""
    return len(served.gateway.context.waits._waiting)


def test_a_long_claim_gets_a_message_as_soon_as_it_comes(served: Served, mq: RedisQ) -> None:
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: listeners(served) == 1)
    id = mq.queue_message(QUEUE, {"n": 1})
    status, answer = client.answer()
    assert status == 200
    assert [one["id"] for one in answer["deliveries"]] == [id]


def test_a_long_claim_ends_when_its_time_is_over(served: Served) -> None:
    began = time.monotonic()
    client = Client(served)
    assert client.claim(wait=0.3) == []
    assert time.monotonic() - began >= 0.3
    client.send(f"/{QUEUE}/_claim", {})
    assert client.answer()[1]["deliveries"] == []


def test_who_waits_is_served_in_turn_and_gets_what_its_own_claim_gave(served: Served, mq: RedisQ) -> None:
    clients = [Client(served) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(f"/{QUEUE}/_claim", {"wait": LONG, "max": 2})
        until(lambda number=number: waits(served) == number + 1)
    until(lambda: listeners(served) == 1)  # one for all
    ids = mq.queue_messages(QUEUE, range(10))
    given = [[one["id"] for one in client.answer()[1]["deliveries"]] for client in clients]
    assert sorted(id for some in given for id in some) == sorted(ids)
    assert given[0][0] == ids[0]


def test_a_claim_that_cannot_wait_sees_what_was_queued_before_it(served: Served, mq: RedisQ) -> None:
    waiting, hasty = Client(served), Client(served)
    waiting.send(f"/{QUEUE}/_claim", {"wait": LONG, "max": 1})
    until(lambda: listeners(served) == 1)
    ids = mq.queue_messages(QUEUE, range(2))
    assert [one["id"] for one in hasty.claim(max=2)] in ([ids[1]], [ids[0]])
    assert len(waiting.answer()[1]["deliveries"]) == 1
    assert hasty.claim() == []


def test_who_goes_away_while_it_waits_takes_nothing_along(served: Served, mq: RedisQ) -> None:
    gone, stays = Client(served), Client(served)
    gone.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: waits(served) == 1)
    stays.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: waits(served) == 2)
    gone.close()
    until(lambda: waits(served) == 1)
    id = mq.queue_message(QUEUE, 1)
    assert [(one["id"], one["attempt"]) for one in stays.answer()[1]["deliveries"]] == [(id, 1)]


def test_nobody_listens_when_nobody_waits(served: Served) -> None:
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: listeners(served) == 1)
    client.close()
    until(lambda: listeners(served) == 0)


def test_who_goes_away_as_its_message_comes_hands_it_back_at_once(served: Served, mq: RedisQ) -> None:
    """Close around the very moment: before it, at it, after the answer was sent but not read."""
    mq.define(QUEUE, lease=3600)  # nothing that is lost comes back in time
    live, attempts = Client(served), []
    for race in range(RACES):
        client = Client(served)
        client.send(f"/{QUEUE}/_claim", {"wait": LONG, "max": 3})
        if race % 4:
            until(lambda: waits(served) == 1)
        closing = threading.Timer(race % 10 * 0.0003, client.close)
        closing.start()
        id = mq.queue_message(QUEUE, race)
        closing.join()
        (delivery,) = live.claim(wait=LONG)
        message = mq.get_message(QUEUE, id)
        assert delivery["id"] == id
        assert [one.event for one in message.history] == ["released"] * (delivery["attempt"] - 1)
        assert live.post(f"/{QUEUE}/{id}/_complete", {"receipt": delivery["receipt"]})[0] == 204
        attempts.append(delivery["attempt"])
    assert mq.stats(QUEUE).completed == RACES
    assert max(attempts) == 2  # else nothing was raced for


def test_an_answer_that_nobody_read_goes_back(served: Served, mq: RedisQ) -> None:
    id = mq.queue_message(QUEUE, 1)
    mq.define(QUEUE, lease=3600)
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {})
    until(lambda: mq.get_message(QUEUE, id).status == Status.INPROGRESS)
    client.close()
    until(lambda: mq.get_message(QUEUE, id).status == Status.PENDING)


def test_who_has_read_its_answer_keeps_its_message_when_it_closes(served: Served, mq: RedisQ) -> None:
    for number in range(20):
        id = mq.queue_message(QUEUE, number)
        client = Client(served)
        (delivery,) = client.claim(wait=1)
        client.close()
        other = Client(served)
        assert other.claim() == []
        assert other.post(f"/{QUEUE}/{id}/_complete", {"receipt": delivery["receipt"]})[0] == 204
        other.close()


def test_a_gateway_that_stops_answers_those_who_wait_and_takes_nothing_more(served: Served, mq: RedisQ) -> None:
    clients = [Client(served) for _ in range(3)]
    for client in clients:
        client.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: waits(served) == 3)
    served.stop()
    for client in clients:
        status, answer = client.answer()
        assert (status, answer["deliveries"]) == (200, [])
    assert listeners(served) == 0


def test_a_token_that_expires_during_the_wait_gets_nothing(served: Served, mq: RedisQ) -> None:
    token = served.gateway.token(ttl=1, now=time.time() - 30)  # a second left, with the leeway
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {"wait": LONG}, token)
    until(lambda: waits(served) == 1)
    time.sleep(2.1)
    id = mq.queue_message(QUEUE, 1)
    status, answer = client.answer()
    assert (status, answer["error"]["code"]) == (401, "token_expired")
    until(lambda: mq.get_message(QUEUE, id).status == Status.PENDING)
    assert [one.event for one in mq.get_message(QUEUE, id).history] == ["released"]


def test_a_token_that_is_revoked_during_the_wait_gets_nothing(served: Served, mq: RedisQ) -> None:
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: waits(served) == 1)
    served.gateway.verifier.known.clear()
    id = mq.queue_message(QUEUE, 1)
    status, answer = client.answer()
    assert (status, answer["error"]["code"]) == (401, "invalid_token")
    until(lambda: mq.get_message(QUEUE, id).status == Status.PENDING)
    assert [one.event for one in mq.get_message(QUEUE, id).history] == ["released"]


def test_claims_that_wait_count_as_long_waits(make_gateway: MakeGateway, make_served: Callable[..., Served]) -> None:
    served = make_served(make_gateway(waits_per_token=1))
    token, clients = served.gateway.token(), [Client(served) for _ in range(3)]
    clients[0].send(f"/{QUEUE}/_claim", {"wait": LONG}, token)
    until(lambda: waits(served) == 1)
    clients[1].send("/other/_claim", {"wait": LONG}, token)
    assert clients[1].answer()[0] == 429
    clients[2].send("/other/_claim", {"wait": 0}, token)
    assert clients[2].answer()[0] == 200
    served.gateway.mq.queue_message(QUEUE, 1)
    assert clients[0].answer()[0] == 200


def test_a_queue_that_is_closed_during_the_wait_gives_strangers_nothing(
    make_gateway: MakeGateway, make_served: Callable[[Gateway], Served]
) -> None:
    served = make_served(make_gateway(open_queues=QUEUE, hosts="gateway"))
    mq, client = served.gateway.mq, Client(served)
    mq.define(QUEUE, security="none")
    client.send(f"/{QUEUE}/_claim", {"wait": LONG}, None)
    until(lambda: waits(served) == 1)
    mq.define(QUEUE, security="token")
    until(lambda: Client(served).post(f"/{QUEUE}/_claim", {}, None)[0] == 401)
    id = mq.queue_message(QUEUE, 1)
    status, answer = client.answer()
    assert (status, answer["error"]["code"]) == (401, "invalid_token")
    until(lambda: mq.get_message(QUEUE, id).status == Status.PENDING)
