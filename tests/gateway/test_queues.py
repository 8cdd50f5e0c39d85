"""Queues as a whole: what they hold, their settings, their dead letters; pause, resume, purge."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from redisq import Definition, store
from redisq.body import codec
from redisq.link.sync import Link
from redisq.model.delivery import Failure
from redisq.operations.caller import limits_of
from redisq.store.call import new_nonce
from redisq.store.keys import partition_keys
from tests.gateway.conftest import QUEUE, Gateway

NONE = asdict(Definition())


def test_what_a_queue_holds(gateway: Gateway) -> None:
    gateway.mq.queue_messages(QUEUE, [1, 2])
    found = gateway.call("GET", "/orders").json()
    assert (found["ready"], found["queued"], found["queue"]) == (2, 2, QUEUE)


def test_a_queue_that_does_not_exist_is_said_not_to(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    for method, path in (
        ("GET", ""),
        ("GET", "/_config"),
        ("GET", "/_dead"),
        ("POST", "/_pause"),
        ("POST", "/_resume"),
        ("POST", "/_purge"),
        ("POST", "/_redrive"),
    ):
        error = gateway.call(method, f"/order{path}")
        assert error.status_code == 404, path
        assert error.json()["error"]["code"] == "queue_not_found"
        assert error.json()["error"]["message"] == "There is no queue order. Did you mean orders?"
        assert gateway.call(method, f"/{QUEUE}{path}").status_code == 200
    assert gateway.mq.queues() == [QUEUE]


def test_the_nearest_names_are_those_that_the_token_may_see(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    gateway.mq.queue_message("order-secrets", 1)
    told = {
        "order": gateway.token(["stats"], ["order", QUEUE]),
        "order-": gateway.token(["stats", "admin"], ["order-"]),
    }
    texts = {
        name: gateway.call("GET", f"/{name}", token=token).json()["error"]["message"] for name, token in told.items()
    }
    assert texts == {"order": "There is no queue order. Did you mean orders?", "order-": "There is no queue order-."}


def test_settings_are_shown_replaced_and_changed(gateway: Gateway) -> None:
    assert gateway.call("GET", "/orders/_config").status_code == 404
    assert gateway.mq.queues() == []
    put = gateway.call("PUT", "/orders/_config", message={"lease": 60, "paused": True})
    assert put.json() == {**NONE, "lease": 60, "paused": True}
    patched = gateway.call("PATCH", "/orders/_config", message={"max_attempts": 7.0})
    assert patched.json() == {**NONE, "lease": 60, "paused": True, "max_attempts": 7}
    assert gateway.call("GET", "/orders/_config").json() == patched.json() == asdict(gateway.mq.define(QUEUE))
    assert gateway.call("PUT", "/orders/_config", message=patched.json()).json() == patched.json()
    assert gateway.call("PATCH", "/orders/_config", message={"lease": None}).json()["lease"] is None
    assert gateway.call("PUT", "/orders/_config", message={}).json() == NONE


@pytest.mark.parametrize(
    "change",
    [{"lease": -1}, {"nonsense": 1}, {"security": "open"}, {"max_length": 1.5}, [], None, {"paused": 1}],
    ids=repr,
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_setting_that_cannot_be_is_refused(gateway: Gateway, method: str, change: Any) -> None:
    gateway.mq.define(QUEUE, max_attempts=7)
    refused = gateway.call(method, "/orders/_config", message=change)
    assert (refused.status_code, refused.json()["error"]["code"]) in [(400, "invalid_definition"), (400, "bad_request")]
    assert gateway.mq.define(QUEUE) == Definition(max_attempts=7)


def test_a_queue_is_paused_resumed_and_purged(gateway: Gateway) -> None:
    gateway.mq.queue_messages(QUEUE, [1, 2, 3])
    assert gateway.call("POST", "/orders/_pause").json()["paused"] is True
    assert gateway.call("POST", "/orders/_resume").json()["paused"] is False
    assert gateway.call("POST", "/orders/_purge").json() == {"purged": 3}
    assert gateway.call("POST", "/orders/_purge", content=b"x").status_code == 400
    assert gateway.mq.stats(QUEUE).ready == 0


def test_dead_letters_are_listed_and_redriven(gateway: Gateway) -> None:
    gateway.mq.queue_messages(QUEUE, [1, 2])
    die(gateway)
    found = gateway.call("GET", "/orders/_dead").json()["messages"]
    assert sorted((letter["request"], letter["error"]["reason"]) for letter in found) == [(1, "failed"), (2, "failed")]
    assert len(gateway.call("GET", "/orders/_dead?limit=1").json()["messages"]) == 1
    assert gateway.call("GET", "/orders/_dead?reason=expired").json() == {"messages": []}
    assert gateway.call("POST", "/orders/_redrive?reason=expired").json() == {"redriven": 0}
    assert gateway.call("POST", "/orders/_redrive?max_age=3600").json() == {"redriven": 2}


def test_large_dead_letters_come_in_lists_of_bounded_size(gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, max_bytes=32 * 1024 * 1024)
    sizes = [6 * 1024 * 1024] * 3 + [20 * 1024 * 1024]
    for size in sizes:
        gateway.mq.queue_message(QUEUE, "x" * size)
        die(gateway)
    found = gateway.call("GET", "/orders/_dead").json()["messages"]
    assert [len(letter["request"]) for letter in found] == sizes[:2]
    assert len(gateway.mq.dead_letters(QUEUE)) == 4
    gateway.mq.purge_dead(QUEUE, [letter["id"] for letter in gateway.call("GET", "/orders/_dead").json()["messages"]])
    gateway.mq.purge_dead(QUEUE, [gateway.call("GET", "/orders/_dead").json()["messages"][0]["id"]])
    assert [len(one["request"]) for one in gateway.call("GET", "/orders/_dead").json()["messages"]] == sizes[3:]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "reason=x", "min_age=31536001", "max_age=-1", "max_age=x", "age=1"]
)
def test_a_choice_that_cannot_be_is_refused(gateway: Gateway, query: str) -> None:
    for method, path in (("GET", "_dead"), ("POST", "_redrive")):
        refused = gateway.call(method, f"/orders/{path}?{query}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")


def die(gateway: Gateway) -> None:
    """Let a worker fail all that waits, for good."""
    settings = gateway.context.settings
    link = Link(settings)
    keys, limits = partition_keys(settings.namespace, QUEUE), limits_of(settings)
    try:
        claimed = link.call(store.deliveries.claim(keys, limits, "w", new_nonce(), 10)).deliveries
        error = codec.encode({"type": "Broken", "message": "it is broken"})
        failures = [Failure(one.receipt, error, final=True) for one in claimed]
        assert {dead.delay for dead in link.call(store.deliveries.fail(keys, limits, failures))} == {None}
    finally:
        link.close()
