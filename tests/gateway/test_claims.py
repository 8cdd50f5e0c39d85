"""Workers over HTTP: claims, and what becomes of deliveries, against a real Redis."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from redis import Redis

from redisq import Status
from redisq.gateway.work import errands
from redisq.store.keys import given_id
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway

ERROR = {"type": "E", "message": ""}
RESULT_TOO_LARGE = "x" * 2000


def claim(gateway: Gateway, **body: Any) -> list[dict[str, Any]]:
    answer = gateway.call("POST", f"/{QUEUE}/_claim", json=body)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["deliveries"]
    return found


def settle(gateway: Gateway, delivery: dict[str, Any], how: str, **body: Any) -> httpx.Response:
    path = f"/{delivery['queue']}/{delivery['id']}/_{how}"
    content = json.dumps({"receipt": delivery["receipt"], **body})
    return gateway.call("POST", path, content=content, headers={"Content-Type": "application/json"})


def lapse(gateway: Gateway) -> None:
    """Let all leases have lapsed long ago."""
    settings = gateway.context.settings
    with Redis.from_url(settings.url) as redis:
        leases = f"{settings.namespace}:1:{{{QUEUE}}}:leases"
        for id in redis.zrange(leases, 0, -1):
            redis.zadd(leases, {id: 1})


def test_a_claim_gives_what_is_ready_and_a_completion_ends_it(gateway: Gateway) -> None:
    ids = [gateway.mq.queue_message(QUEUE, {"n": n}, headers={"n": str(n)}) for n in range(3)]
    first = claim(gateway)
    assert [one["id"] for one in first] == ids[:1]
    assert {**first[0], "receipt": "", "deadline": ""} == {
        "id": ids[0],
        "queue": QUEUE,
        "request": {"n": 0},
        "attempt": 1,
        "receipt": "",
        "deadline": "",
        "headers": {"n": "0"},
        "max_attempts": 5,
        "is_last_attempt": False,
        "queued_at": gateway.mq.get_message(QUEUE, ids[0]).to_dict()["queued_at"],
        "priority": 0,
    }
    assert first[0]["deadline"].endswith("Z")
    rest = claim(gateway, max=100)
    assert [one["id"] for one in rest] == ids[1:]
    assert claim(gateway) == []
    assert settle(gateway, first[0], "complete", result={"total": 3}).status_code == 204
    message = gateway.mq.get_message(QUEUE, ids[0])
    assert (message.status, message.result) == (Status.COMPLETE, {"total": 3})


def test_a_claim_tells_the_last_attempt(gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, max_attempts=2)
    gateway.mq.queue_message(QUEUE, 1, priority=3)
    told = []
    for how, more in (("release", {}), ("fail", {"error": ERROR, "retry_after": 0}), ("fail", {"error": ERROR})):
        (one,) = claim(gateway)
        told.append((one["attempt"], one["max_attempts"], one["is_last_attempt"], one["priority"]))
        settle(gateway, one, how, **more)
    assert told == [(1, 2, False, 3), (2, 2, False, 3), (3, 2, True, 3)]
    assert gateway.mq.stats(QUEUE).dead == 1


def test_a_delivery_is_deferred(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (one,) = claim(gateway)
    for _ in range(2):  # a repeat is answered as the first was
        assert settle(gateway, one, "release", after=3600).status_code == 204
    assert claim(gateway) == []
    message = gateway.mq.get_message(QUEUE, id)
    assert message.available_at - message.queued_at > timedelta(minutes=50)
    assert [(step.event, step.count) for step in message.history] == [("deferred", 1)]
    answer = gateway.call("GET", f"/{QUEUE}/{id}").json()
    assert answer["history"][0]["count"] == 1
    assert settle(gateway, one, "complete").status_code == 409


@pytest.mark.parametrize("after", [-1, 31_536_001, "5", True, [1]], ids=repr)
def test_a_bad_deferral_changes_nothing(gateway: Gateway, after: Any) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    (one,) = claim(gateway)
    refused = settle(gateway, one, "release", after=after)
    assert refused.status_code == 400
    assert "after takes seconds" in refused.json()["error"]["message"]
    assert settle(gateway, one, "release", after=None).status_code == 204
    assert [again["id"] for again in claim(gateway)] == [one["id"]]


def test_a_delivery_whose_head_was_damaged_is_unreadable(gateway: Gateway) -> None:
    settings = gateway.context.settings
    id = gateway.mq.queue_message(QUEUE, 1)
    with Redis.from_url(settings.url) as redis:
        messages = f"{settings.namespace}:1:{{{QUEUE}}}:messages"
        entry, _, rest = redis.hget(messages, given_id(id)).partition(b" ")
        redis.hset(messages, given_id(id), b"%b;x;y %b" % (entry, rest))
        assert claim(gateway) == []
        redis.hset(messages, given_id(id), b"%b %b" % (entry, rest))
    while (message := gateway.mq.get_message(QUEUE, id)).status is not Status.ERROR:
        claim(gateway)  # nobody waits for the failure
    assert message.error["reason"] == "unreadable"


def test_a_claim_needs_no_body_and_tells_the_lease(gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, lease=12)
    answer = gateway.call("POST", f"/{QUEUE}/_claim")
    assert answer.status_code == 200
    assert answer.json() == {"deliveries": [], "lease": 12}


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing(gateway: Gateway) -> None:
    gateway.mq.queue_messages(QUEUE, [1, 2, 3])
    assert len(claim(gateway, max=2.0)) == 2


def test_a_claim_creates_no_queue(gateway: Gateway) -> None:
    assert claim(gateway) == []
    with Redis.from_url(gateway.context.settings.url) as redis:
        assert redis.keys(f"{gateway.context.settings.namespace}:*") == []


def test_repeated_completions_succeed_and_stale_ones_are_refused(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    stale = {**delivery, "receipt": "1.AAAAAAAAAAAA"}
    for how in ("complete", "release", "renew"):
        refused = settle(gateway, stale, how)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "lease_lost")
    assert settle(gateway, stale, "fail", error={"type": "E", "message": ""}).status_code == 409
    assert settle(gateway, delivery, "complete", result=1).status_code == 204
    assert settle(gateway, delivery, "complete", result=1).status_code == 204
    assert settle(gateway, delivery, "renew").status_code == 409


@pytest.mark.parametrize("receipt", [None, 1, "", "1", "0.AAAAAAAAAAAA", "1.AAAAAAAAAAA", "1.AAAAAAAAAAA A", "1" * 20])
def test_what_is_no_receipt_is_bad_input(gateway: Gateway, receipt: Any) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    refused = settle(gateway, {**delivery, "receipt": receipt}, "complete")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_message")
    assert gateway.mq.get_message(QUEUE, delivery["id"]).status == Status.INPROGRESS


def test_a_failure_is_retried_after_the_backoff_or_the_time_asked_for(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    error = {"type": "TypeError", "message": "no \ud800"}
    answer = settle(gateway, delivery, "fail", error=error, retry_after=0)
    assert answer.json() == {"retry_in": 0}
    assert gateway.mq.get_message(QUEUE, id).error == {"type": "TypeError", "message": "no ?", "reason": "failed"}
    (again,) = claim(gateway)
    assert again["attempt"] == 2
    assert settle(gateway, again, "fail", error=error, retry_after=60).json()["retry_in"] == pytest.approx(60, abs=1)


def test_a_failure_may_have_a_traceback_which_is_for_whom_works_or_administers(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    stack = "TypeError: no stock\n" + "    at charge (shop.js:12)\n" * 400 + "    at main (shop.js:1)"
    for attempt in (1, 2):
        (delivery,) = claim(gateway)
        error = {"type": "TypeError", "message": f"no {attempt}", "traceback": stack}
        assert settle(gateway, delivery, "fail", error=error, retry_after=0).json() == {"retry_in": 0}
    told = gateway.mq.get_message(QUEUE, id).error["traceback"]
    assert (told[:20], told[-19:]) == (stack[:20], stack[-19:])
    assert "\n...\n" in told
    assert len(told) <= 4_096
    for ops, sees in (("get", False), ("get,work", True), ("get,admin", True), ("get,queue,delete,stats", False)):
        found = gateway.call("GET", f"/{QUEUE}/{id}", token=gateway.token(ops=ops.split(","))).json()
        assert found["error"] == {"type": "TypeError", "message": "no 2", "reason": "failed"} | (
            {"traceback": told} if sees else {}
        )
        assert [step["error"] for step in found["history"]] == [
            {"type": "TypeError", "message": "no 1"},
            {"type": "TypeError", "message": "no 2"},
        ]


def test_a_final_failure_rejects_the_message(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    for _ in range(2):
        answer = settle(gateway, delivery, "fail", error={"type": "No", "message": "never"}, final=True)
        assert answer.json() == {"retry_in": None}
    message = gateway.mq.get_message(QUEUE, id)
    assert message.status == Status.ERROR
    assert message.error == {"type": "No", "message": "never", "reason": "rejected"}


@pytest.mark.parametrize(
    "body",
    [
        {"error": "text"},
        {"error": {"type": "E"}},
        {"error": {"type": "E", "message": 1}},
        {"error": {"type": "E", "message": "", "stack": ""}},
        {"error": {"type": "E", "message": "", "traceback": None}},
        {"error": {"type": "E", "traceback": ""}},
        {"error": {"type": "E", "message": ""}, "retry_after": -1},
        {"error": {"type": "E", "message": ""}, "retry_after": "5"},
        {"error": {"type": "E", "message": ""}, "retry_after": 10**9},
        {"error": {"type": "E", "message": ""}, "final": 1},
        {"error": {"type": "E", "message": ""}, "final": True, "retry_after": 1},
        {"error": {"type": "E", "message": ""}, "retries": 1},
        {},
    ],
)
def test_a_malformed_failure_changes_nothing(gateway: Gateway, body: dict[str, Any]) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    assert settle(gateway, delivery, "fail", **body).status_code == 400
    assert gateway.mq.get_message(QUEUE, id).status == Status.INPROGRESS


def test_a_renewal_shows_progress_and_moves_the_deadline(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    lapse(gateway)
    answer = settle(gateway, delivery, "renew", progress={"done": 0.5})
    assert answer.status_code == 200
    assert answer.json()["lease"] == 30
    assert answer.json()["deadline"] >= delivery["deadline"]
    assert gateway.mq.get_message(QUEUE, id).progress == {"done": 0.5}
    assert settle(gateway, delivery, "renew").status_code == 200
    assert gateway.mq.get_message(QUEUE, id).progress == {"done": 0.5}
    assert settle(gateway, delivery, "renew", progress=2**70).status_code == 400
    gateway.mq.delete_message(QUEUE, id)
    assert settle(gateway, delivery, "renew").json()["error"]["code"] == "lease_lost"


@pytest.mark.parametrize("end", ["fail", "release"])
def test_a_renewal_tells_that_a_message_is_to_be_cancelled(gateway: Gateway, end: str) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    assert settle(gateway, delivery, "renew").json()["cancelled"] is False
    answer = gateway.call("POST", f"/orders/{id}/_cancel")
    assert (answer.status_code, answer.json()) == (202, {"cancelled": None})
    assert settle(gateway, delivery, "renew").json()["cancelled"] is True
    error = {"error": {"type": "Stopped", "message": "half-way"}} if end == "fail" else {}
    assert settle(gateway, delivery, end, **error).status_code in (200, 204)
    message = gateway.mq.get_message(QUEUE, id)
    assert (message.status, message.error["reason"], claim(gateway)) == (Status.ERROR, "cancelled", [])


def test_a_result_of_one_that_is_to_be_cancelled_counts(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    gateway.call("POST", f"/orders/{id}/_cancel")
    assert settle(gateway, delivery, "complete", result=5).status_code == 204
    answer = gateway.call("POST", f"/orders/{id}/_cancel")
    assert (answer.status_code, answer.json()) == (200, {"cancelled": False})
    assert gateway.mq.get_message(QUEUE, id).result == 5


def test_a_released_message_is_claimed_again_uncharged(gateway: Gateway) -> None:
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    assert settle(gateway, delivery, "release").status_code == 204
    assert settle(gateway, delivery, "release").status_code == 204
    (again,) = claim(gateway)
    assert (again["id"], again["attempt"]) == (id, 2)
    assert [one.event for one in gateway.mq.get_message(QUEUE, id).history] == ["released"]


@pytest.mark.parametrize(
    ("result", "status", "code"), [(RESULT_TOO_LARGE, 413, "message_too_large"), (2**70, 422, "invalid_message")]
)
def test_a_result_that_cannot_be_stored_ends_the_message(gateway: Gateway, result: Any, status: int, code: str) -> None:
    gateway.mq.define(QUEUE, max_bytes=1000)
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    for _ in range(2):
        answer = settle(gateway, delivery, "complete", result=result)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    message = gateway.mq.get_message(QUEUE, id)
    assert message.status == Status.ERROR
    assert message.error is not None
    assert message.error["reason"] == "rejected"


def test_a_body_beyond_what_is_read_leaves_the_message_in_progress(make_gateway: MakeGateway, gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, max_bytes=1000)
    id = gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    assert settle(gateway, delivery, "complete", result="x" * 4_000_000).status_code == 413
    assert gateway.mq.get_message(QUEUE, id).status == Status.INPROGRESS


def test_a_message_that_cannot_be_read_is_dead_and_not_delivered(gateway: Gateway) -> None:
    ids = [gateway.mq.queue_message(QUEUE, n) for n in range(2)]
    settings = gateway.context.settings
    with Redis.from_url(settings.url) as redis:
        bodies = f"{settings.namespace}:1:{{{QUEUE}}}:messages"
        name = bytes.fromhex(ids[0].replace("-", ""))
        redis.hset(bodies, name, redis.hget(bodies, name)[:-1] + b"\x09\xc1")
    assert [one["id"] for one in claim(gateway, max=2)] == ids[1:]
    end = time.monotonic() + 10
    while not (letters := gateway.mq.dead_letters(QUEUE)) and time.monotonic() < end:
        claim(gateway)
    assert [letter.id for letter in letters] == ids[:1]


def test_values_that_json_does_not_know_are_written_as_elsewhere(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, {"raw": b"\x00\xff"})
    assert claim(gateway)[0]["request"] == {"raw": base64.b64encode(b"\x00\xff").decode()}


@pytest.mark.parametrize(
    "body",
    [
        {"max": 0},
        {"max": 101},
        {"max": 1.5},
        {"max": True},
        {"max": "1"},
        {"wait": -1},
        {"wait": 31},
        {"wait": "1"},
        {"wait": True},
        {"maximum": 1},
        {"worker": ""},
        {"worker": "a b"},
        {"worker": "x" * 65},
        {"claim": "AAAAAAAAAAAA"},
        {"worker": "w", "claim": "short"},
        [],
        "text",
    ],
)
def test_a_malformed_claim_takes_nothing(gateway: Gateway, body: Any) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    refused = gateway.call("POST", f"/{QUEUE}/_claim", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_request")
    assert gateway.mq.stats(QUEUE).ready == 1


def test_a_claim_takes_json_alone(gateway: Gateway) -> None:
    refused = gateway.call("POST", f"/{QUEUE}/_claim", content=b"max=1", headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415
    assert gateway.call("POST", f"/{QUEUE}/_claim?wait=1").status_code == 400


def test_work_is_what_a_token_has_to_allow(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway)
    token = gateway.token(ops=["queue", "get", "delete", "stats", "admin"])
    elsewhere = gateway.token(ops=["work"], queues=["other*"])
    for how in ("_claim", *(f"{delivery['id']}/_{how}" for how in ("complete", "fail", "renew", "release"))):
        for given, status in ((token, 403), (elsewhere, 403), (None, 401)):
            answer = gateway.call("POST", f"/{QUEUE}/{how}", token=given, json={"receipt": delivery["receipt"]})
            assert answer.status_code == status, how
    assert gateway.mq.get_message(QUEUE, delivery["id"]).status == Status.INPROGRESS
    assert settle(gateway, delivery, "complete").status_code == 204


def test_what_is_no_id_is_not_found(gateway: Gateway) -> None:
    answer = gateway.call("POST", f"/{QUEUE}/none/_release", json={"receipt": "1.AAAAAAAAAAAA"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "message_not_found")


# --- Claims that may be repeated ---

AGAIN = {"worker": "node-1", "claim": "abcdefghijkl"}


def test_a_repeated_claim_gets_the_same_deliveries(gateway: Gateway) -> None:
    ids = [gateway.mq.queue_message(QUEUE, n) for n in range(4)]
    first = claim(gateway, max=2, **AGAIN)
    assert [one["id"] for one in first] == ids[:2]
    lapse(gateway)  # they lay on the way for long; a repeat renews them
    again = claim(gateway, max=2, **AGAIN)
    assert [{**one, "deadline": ""} for one in again] == [{**one, "deadline": ""} for one in first]
    assert settle(gateway, first[0], "complete").status_code == 204
    assert [one["id"] for one in claim(gateway, max=2, **AGAIN)] == ids[1:2]
    assert settle(gateway, first[1], "release").status_code == 204
    assert claim(gateway, max=2, wait=20, **AGAIN) == []  # at once: nothing is left of that claim
    assert len(claim(gateway, max=10, **{**AGAIN, "claim": "AAAAAAAAAAAA"})) == 3


def test_a_claim_is_repeated_by_its_own_application_alone(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    (delivery,) = claim(gateway, **AGAIN)
    lapse(gateway)
    settings = gateway.context.settings
    with Redis.from_url(settings.url) as redis:
        assert redis.hkeys(f"{settings.namespace}:1:{{{QUEUE}}}:workers") == [b"tests:node-1"]
    assert settle(gateway, delivery, "renew").status_code == 200


def test_large_messages_come_in_answers_of_bounded_size(gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, max_bytes=32 * 1024 * 1024)
    large, larger = 6 * 1024 * 1024, 20 * 1024 * 1024
    ids = [gateway.mq.queue_message(QUEUE, "x" * size) for size in (*[large] * 5, larger, *[1] * 9)]
    first = claim(gateway, max=100, worker="w", claim="AAAAAAAAAAAA")
    assert [one["id"] for one in first] == ids[:2]
    again = claim(gateway, max=100, worker="w", claim="AAAAAAAAAAAA")
    assert [(one["id"], one["receipt"]) for one in again] == [(one["id"], one["receipt"]) for one in first]
    got, sizes = [one["id"] for one in first], list[list[int]]()
    while len(got) < len(ids):
        found = claim(gateway, max=100, wait=10)  # what was handed back may still be on its way
        sizes.append([len(one["request"]) for one in found])
        got += [one["id"] for one in found]
    assert sorted(got) == sorted(ids)
    assert all(sum(some) <= 16 * 1024 * 1024 or some == [larger] for some in sizes)
    histories = [gateway.mq.get_message(QUEUE, id).history for id in ids]
    assert {past.event for history in histories for past in history} == {"released"}


def test_small_messages_come_together_again_after_large_ones(gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, max_bytes=32 * 1024 * 1024)
    for _ in range(2):
        gateway.mq.queue_message(QUEUE, "x" * 20 * 1024 * 1024)
    assert [len(claim(gateway, max=100, wait=10)) for _ in range(2)] == [1, 1]
    gateway.mq.queue_messages(QUEUE, list(range(200)))
    counts: list[int] = []
    while sum(counts) < 200:
        counts.append(len(claim(gateway, max=100, wait=10)))
    assert len(counts) <= 10  # twice as many each time, and 100 at last


def test_who_claims_has_the_queue_swept(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "_SWEEP_AFTER", 0.0)
    gateway.mq.queue_message(QUEUE, 1)
    claim(gateway, worker="gone", claim="AAAAAAAAAAAA")
    settings = gateway.context.settings
    with Redis.from_url(settings.url) as redis:
        workers = f"{settings.namespace}:1:{{{QUEUE}}}:workers"
        ((name, last),) = redis.hgetall(workers).items()
        nonce, _, ids = last.split(b" ", 2)
        redis.hset(workers, name, b"%s 1 %s" % (nonce, ids))  # long ago
        while redis.hlen(workers):
            claim(gateway)


def test_a_claim_of_nothing_may_be_repeated_until_there_is_something(gateway: Gateway) -> None:
    assert claim(gateway, **AGAIN) == []
    id = gateway.mq.queue_message(QUEUE, 1)
    assert [one["id"] for one in claim(gateway, **AGAIN)] == [id]


# --- Lapsed leases ---


@pytest.mark.full
def test_a_lapsed_lease_is_taken_over_once_it_was_seen_lapsed(make_gateway: MakeGateway, gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, lease=0.3)
    id = gateway.mq.queue_message(QUEUE, 1)
    (first,) = claim(gateway)
    lapse(gateway)
    assert claim(gateway) == []  # this gateway may have come up at the end of an outage
    end = time.monotonic() + 20
    again: list[dict[str, Any]] = []
    while not again and time.monotonic() < end:
        again = claim(gateway, wait=2)
    assert [(one["id"], one["attempt"]) for one in again] == [(id, 2)]
    assert settle(gateway, first, "complete").status_code == 409
    events = [(one.event, one.attempt) for one in gateway.mq.get_message(QUEUE, id).history]
    assert events == [("lost", 1), ("reclaimed", 2)]
