"""What the contract suite needs beside clients: a hand that does a worker's part, more servers, proxies and traps."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from redisq import RedisQError, Settings, embedded, store
from redisq.body import codec
from redisq.link.endpoint import Endpoint
from redisq.link.sync import Link
from redisq.model.delivery import Claimed, Failed, Failure
from redisq.operations.caller import limits_of
from redisq.store.call import Call, new_nonce
from redisq.store.keys import given_id, partition_keys
from tests.support.servers.proxy import Proxy, Trap

QUEUE = "orders"


class Hand:
    """Does by hand what a worker does: claims the messages of one queue and ends them, one at a time."""

    def __init__(self, settings: Settings, queue: str = QUEUE) -> None:
        self._link = Link(settings)
        self._limits = limits_of(settings)
        self._keys = partition_keys(settings.namespace, queue)
        self.name = f"hand-{uuid.uuid4().hex[:8]}"

    def claim_up_to(self, count: int) -> Sequence[Claimed]:
        """Claim up to `count` messages."""
        nonce = new_nonce()
        return self._link.call(store.deliveries.claim(self._keys, self._limits, self.name, nonce, count)).deliveries

    def claim(self) -> Claimed:
        """Claim the one message that is due."""
        (delivery,) = self.claim_up_to(1)
        return delivery

    def complete(self, delivery: Claimed, result: object = None) -> None:
        """Complete a delivery, or raise what refuses it."""
        results = [(delivery.receipt, codec.encode(result))]
        self._one(store.deliveries.complete(self._keys, self._limits, results))

    def fail(self, delivery: Claimed, text: str = "no stock", **how: Any) -> float | None:
        """Fail a delivery and give the delay until its next attempt."""
        error = codec.encode({"type": "ValueError", "message": text})
        failure = Failure(delivery.receipt, error, **how)
        failed: Failed = self._one(store.deliveries.fail(self._keys, self._limits, [failure]))
        return failed.delay

    def progress(self, delivery: Claimed, value: object) -> None:
        """Renew a delivery's lease and note its progress."""
        self._one(store.deliveries.renew(self._keys, self._limits, [(delivery.receipt, codec.encode(value))]))

    def release(self, delivery: Claimed) -> None:
        """Hand a delivery back."""
        self._one(store.deliveries.release(self._keys, self._limits, [delivery.receipt]))

    def leave(self) -> None:
        """End as a worker."""
        self._link.call(store.deliveries.leave(self._keys, self._limits, self.name))

    def bring(self, id: str, status: str, result: object = None) -> None:
        """Bring the one message that is due to a status."""
        if status == "PENDING":
            return
        delivery = self.claim()
        assert delivery.receipt.id == given_id(id)
        if status == "COMPLETE":
            self.complete(delivery, result)
        elif status == "ERROR":
            self.fail(delivery, final=True)

    def _one(self, call: Call[Any]) -> Any:
        (outcome,) = self._link.call(call)
        if isinstance(outcome, RedisQError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Close the connections."""
        self._link.close()


@pytest.fixture
def hand_on() -> Iterator[Callable[[Settings], Hand]]:
    """Make hands on any settings."""
    made: list[Hand] = []

    def make(settings: Settings) -> Hand:
        made.append(Hand(settings))
        return made[-1]

    yield make
    for hand in made:
        hand.close()


@pytest.fixture
def hand(mq: Any, hand_on: Callable[[Settings], Hand]) -> Hand:
    """A hand on the settings of `mq`."""
    return hand_on(mq.settings)


@pytest.fixture
def start_another(
    request: pytest.FixtureRequest, real_server: embedded.EmbeddedServer
) -> Iterator[Callable[..., embedded.EmbeddedServer]]:
    """Start further servers of the kind this test runs on, to be ruined by it."""
    name = request.node.callspec.params["real_server"]
    started: list[embedded.EmbeddedServer] = []

    def start(**options: Any) -> embedded.EmbeddedServer:
        which = {"binary": name} if os.sep in name else {"kind": name}
        started.append(embedded.start(**which, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def proxy(real_server: embedded.EmbeddedServer) -> Iterator[Proxy]:
    """A proxy before each real server."""
    with Proxy(real_server.url) as proxy:
        yield proxy


@pytest.fixture
def trap() -> Iterator[Trap]:
    """A server that nobody may talk to; the test fails when somebody did."""
    trap = Trap()
    yield trap
    touched = not trap.untouched()
    trap.close()
    assert not touched, "something was sent"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a thread that has a connection wait for its answer for longer than others wait for the connection."""
    make = Endpoint.connection

    def connection(endpoint: Endpoint) -> Any:
        made = make(endpoint)
        made.socket_timeout = 60
        return made

    monkeypatch.setattr(Endpoint, "connection", connection)
