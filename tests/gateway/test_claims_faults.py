"""Claims over HTTP when Redis, or its answers, are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from redisq import RedisQ, Status, embedded
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, MakeGateway
from tests.gateway.test_claims_wire import LONG, Client, Served, listeners, make_served, waits
from tests.support.servers.proxy import Proxy, script, until

__all__ = ["make_served"]


@pytest.fixture
def proxy(real_server: embedded.EmbeddedServer) -> Iterator[Proxy]:
    """A way to Redis with faults."""
    with Proxy(real_server.url) as proxy:
        yield proxy


@pytest.fixture
def mq(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[RedisQ]:
    """A client that has none of these faults."""
    with RedisQ(settings=settings_for(real_server.url, namespace)) as mq:
        yield mq


@pytest.fixture
def served(proxy: Proxy, make_served: Callable[..., Served], make_gateway: MakeGateway, namespace: str) -> Served:
    """A gateway that reaches Redis through the proxy, and knows all scripts, so that each call is an EVALSHA."""
    served = make_served(make_gateway(settings_for(proxy.url, namespace, command_timeout=1, retry_deadline=1.5)))
    warm = Client(served)
    warm.post("/warm", {})
    while not (given := warm.post("/warm/_claim", {})[1]["deliveries"]):
        pass
    assert warm.post(f"/warm/{given[0]['id']}/_release", {"receipt": given[0]["receipt"]})[0] == 204
    (again,) = warm.post("/warm/_claim", {})[1]["deliveries"]
    assert warm.post(f"/warm/{again['id']}/_renew", {"receipt": again["receipt"]})[0] == 200
    assert warm.post(f"/warm/{again['id']}/_complete", {"receipt": again["receipt"]})[0] == 204
    return served


def test_a_claim_whose_answer_was_lost_gets_its_messages_nevertheless(served: Served, proxy: Proxy, mq: RedisQ) -> None:
    mq.define(QUEUE, lease=3600)
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {"wait": LONG, "max": 5})
    until(lambda: listeners(served) == 1)
    proxy.cut_reply(script("claim"))
    id = mq.queue_message(QUEUE, 1)
    status, answer = client.answer()
    assert (status, [(one["id"], one["attempt"]) for one in answer["deliveries"]]) == (200, [(id, 1)])
    assert mq.get_message(QUEUE, id).history == ()


def test_who_left_while_the_answer_was_lost_leaves_nothing_behind(served: Served, proxy: Proxy, mq: RedisQ) -> None:
    mq.define(QUEUE, lease=3600)
    id = mq.queue_message(QUEUE, 1)
    proxy.cut_reply(script("claim"), times=4)
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: mq.get_message(QUEUE, id).status == Status.INPROGRESS)
    client.close()
    until(lambda: mq.get_message(QUEUE, id).status == Status.PENDING)
    assert [step.event for step in mq.get_message(QUEUE, id).history] == ["released"]


def test_a_release_whose_answer_was_lost_is_repeated(served: Served, proxy: Proxy, mq: RedisQ) -> None:
    mq.define(QUEUE, lease=3600)
    id = mq.queue_message(QUEUE, 1)
    proxy.cut_reply(script("release"), times=2)
    client = Client(served)
    client.send(f"/{QUEUE}/_claim", {})
    until(lambda: mq.get_message(QUEUE, id).status == Status.INPROGRESS)
    client.close()
    until(lambda: mq.get_message(QUEUE, id).status == Status.PENDING)
    assert mq.stats(QUEUE).released == 1


def test_an_outage_is_told_to_those_who_wait_and_is_over_by_itself(served: Served, proxy: Proxy, mq: RedisQ) -> None:
    patient, hasty = Client(served), Client(served)
    patient.send(f"/{QUEUE}/_claim", {"wait": LONG})
    until(lambda: waits(served) == 1)
    until(lambda: listeners(served) == 1)
    target, proxy.target = proxy.target, "redis://127.0.0.1:1/0"
    proxy.hang_up()
    for client in (hasty, patient):
        if client is hasty:
            client.send(f"/{QUEUE}/_claim", {})
        status, answer = client.answer()
        assert (status, answer["error"]["code"]) == (503, "unavailable")
    proxy.target = target
    id = mq.queue_message(QUEUE, 1)
    end = time.monotonic() + 20
    while (answered := hasty.post(f"/{QUEUE}/_claim", {"wait": 5}))[0] == 503:
        assert time.monotonic() < end
    assert [one["id"] for one in answered[1]["deliveries"]] == [id]
