"""The three calls of the seed over HTTP: statuses, headers, bodies; bad input is refused and changes nothing."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgpack
import pytest

from redisq import Status
from redisq.store.keys import derived_id, id_text
from tests.conftest import CREDENTIALS, settings_for
from tests.gateway.conftest import QUEUE, Gateway, MakeGateway

JSON = {"Content-Type": "application/json"}


def queued(gateway: Gateway, message: Any = 1) -> str:
    return str(gateway.mq.queue_message(QUEUE, message))


def code(response: Any) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["request_id"] == response.headers["X-Request-Id"]
    return response.status_code, error["code"]


def test_a_message_is_queued_looked_up_and_deleted(gateway: Gateway) -> None:
    made = gateway.call("POST", "/orders", message={"sku": "A-1"})
    assert made.status_code == 201
    id = made.json()["id"]
    assert made.json() == {"id": id}
    assert made.headers["Location"] == f"/orders/{id}"
    found = gateway.call("GET", f"/orders/{id}")
    assert found.status_code == 200
    assert found.json() == gateway.mq.get_message(QUEUE, id).to_dict()
    assert (found.json()["status"], found.json()["request"]) == ("PENDING", {"sku": "A-1"})
    gone = gateway.call("DELETE", f"/orders/{id}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert code(gateway.call("GET", f"/orders/{id}")) == (404, "message_not_found")
    assert code(gateway.call("DELETE", f"/orders/{id}")) == (404, "message_not_found")


def test_a_message_that_waits_is_cancelled(gateway: Gateway) -> None:
    id = queued(gateway)
    for _ in range(2):
        answer = gateway.call("POST", f"/orders/{id}/_cancel")
        assert (answer.status_code, answer.json()) == (200, {"cancelled": True})
    found = gateway.call("GET", f"/orders/{id}").json()
    assert (found["status"], found["error"]["reason"]) == ("ERROR", "cancelled")
    assert [(step["event"], step["by"]) for step in found["history"]] == [("cancelled", "tests")]
    assert gateway.call("GET", "/orders").json()["cancelled"] == 1
    assert gateway.call("GET", "/orders/_dead").json() == {"messages": []}


def test_what_is_not_to_be_cancelled_is_said(gateway: Gateway) -> None:
    id = queued(gateway)
    assert code(gateway.call("POST", f"/orders/{uuid.uuid4()}/_cancel")) == (404, "message_not_found")
    assert code(gateway.call("POST", "/orders/no-id/_cancel")) == (404, "message_not_found")
    assert code(gateway.call("POST", f"/orders/{id}/_cancel", message={"really": True}))[0] == 400
    gateway.call("DELETE", f"/orders/{id}")
    assert code(gateway.call("POST", f"/orders/{id}/_cancel")) == (404, "message_not_found")
    assert gateway.mq.stats(QUEUE).cancelled == 0


@pytest.mark.parametrize(
    "value", [None, 0, "", [], {}, -(2**63), 2**63 - 1, 1.5, "жук ❤", [{"a": [None, True]}]], ids=repr
)
def test_what_is_queued_comes_back(gateway: Gateway, value: Any) -> None:
    id = gateway.call("POST", "/orders", message=value).json()["id"]
    assert gateway.call("GET", f"/orders/{id}").json()["request"] == value


def test_msgpack_is_taken_too(gateway: Gateway) -> None:
    headers = {"Content-Type": "application/msgpack"}
    moment = datetime(2026, 12, 24, 18, tzinfo=UTC)
    value = {"bytes": b"\x00\xff", "at": moment}
    made = gateway.call("POST", "/orders", content=msgpack.packb(value, datetime=True), headers=headers)
    assert gateway.mq.get_message(QUEUE, made.json()["id"]).request == value
    for raw in (
        b"\xc1",
        b"",
        msgpack.packb({1: 2}),
        b"\x82\xa1a\x01\xa1a\x02",
        msgpack.packb(msgpack.ExtType(5, b"x")),
    ):
        assert code(gateway.call("POST", "/orders", content=raw, headers=headers)) == (400, "invalid_message")
    assert gateway.mq.stats(QUEUE).queued == 1


BAD_JSON = {
    "empty": b"",
    "cut": b'{"a": ',
    "two": b"1 2",
    "key twice": b'{"a": 1, "a": 2}',
    "NaN": b'{"a": NaN}',
    "infinity": b"-Infinity",
    "too large a float": b"1e400",
    "beyond 64 bits": b"9223372036854775808",
    "many digits": b"9" * 5000,
    "a lone surrogate": b'"\\ud800"',
    "a lone surrogate in a key": b'{"\\ud800": 1}',
    "33 levels": b"[" * 33 + b"]" * 33,
    "very deep": b"[" * 100_000,
    "latin-1": b'"\xe9"',
    "UTF-16": '"a"'.encode("utf-16"),
    "nothing but a byte order mark": b"\xef\xbb\xbf",
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf"a"',
    "a byte order mark behind a space": b' \xef\xbb\xbf"a"',
    "a control character": b'"\x00"',
    "many items": json.dumps([0] * 100_001).encode(),
}


@pytest.mark.parametrize("raw", BAD_JSON.values(), ids=BAD_JSON)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_is_no_message_is_refused(gateway: Gateway, method: str, raw: bytes) -> None:
    path = "/orders" if method == "POST" else f"/orders/{uuid.uuid4()}"
    assert code(gateway.call(method, path, content=raw, headers=JSON)) == (400, "invalid_message")
    assert gateway.mq.queues() == []


def test_an_error_names_the_place_and_never_the_value(gateway: Gateway) -> None:
    raw = b'{"items": [{"secret": 99999999999999999999}]}'
    error = gateway.call("POST", "/orders", content=raw, headers=JSON).json()["error"]
    assert error["path"] == "$.items[0].secret"
    assert "9999" not in error["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; charset=utf-8; charset=latin-1"},
        {"Content-Type": 'application/json; charset="utf-16"'},
        {"Content-Type": "application/json; charset"},
        {"Content-Type": 'application/json; charset="utf-8'},
        {"Content-Type": "application/msgpack; charset=utf-8"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Type": "application/vnd.api+json"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
    ids=repr,
)
def test_another_type_is_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    refused = gateway.call("POST", "/orders", content=b"1", headers=headers)
    assert code(refused) == (415, "unsupported_media_type")
    assert "application/json" in refused.headers["Accept"]
    assert gateway.mq.queues() == []


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json;charset=utf8",
        "application/json; charset=UTF8",
        "APPLICATION/JSON",
        "application/json;",
        "application/json ; charset=utf-8;",
        "application/json;;\t; CHARSET=utf-8",
        "application/json; profile=1",
        'application/json; profile="a; charset=latin-1"; charset=utf-8',
        "  application/json  ",
    ],
)
def test_a_type_may_be_spelled_as_it_may(gateway: Gateway, kind: str) -> None:
    assert gateway.call("POST", "/orders", content=b"1", headers={"Content-Type": kind}).status_code == 201


# --- Options ---


def test_a_delay_and_a_life(gateway: Gateway) -> None:
    id = gateway.call("POST", "/orders?delay=60.5&expires_in=90", message=1).json()["id"]
    message = gateway.mq.get_message(QUEUE, id)
    assert message.available_at - message.queued_at == timedelta(seconds=60.5)
    assert message.expires_at - message.queued_at == timedelta(seconds=90)


def test_a_priority(gateway: Gateway) -> None:
    plain, urgent = (gateway.call("POST", f"/orders{query}", message=1).json()["id"] for query in ("", "?priority=5"))
    put = str(uuid.uuid4())
    assert gateway.call("PUT", f"/orders/{put}?priority=9", message=1).status_code == 201
    told = gateway.call("POST", "/orders/_claim", json={"max": 3}).json()
    assert [delivery["id"] for delivery in told["deliveries"]] == [put, urgent, plain]
    assert gateway.call("GET", f"/orders/{urgent}").json()["priority"] == 5


def test_a_time(gateway: Gateway) -> None:
    at = datetime.now(UTC) + timedelta(hours=2)
    query = at.isoformat().replace("+", "%2B")
    id = gateway.call("PUT", f"/orders/{uuid.uuid4()}?at={query}", message=1).json()["id"]
    assert abs(gateway.mq.get_message(QUEUE, id).available_at - at) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "query",
    [
        "delay=-1",
        "delay=x",
        "delay=1e9",
        "delay=e3",
        "delay=",
        "delay",
        "delay=1&delay=1",
        "delay=99999999",
        "delay=1&at=2026-12-24T18:00:00Z",
        "at=now",
        "at=2026-12-24T18:00:00",
        "expires_in=0",
        "priority=10",
        "priority=-1",
        "priority=1.5",
        "priority=",
        "priority=high",
        "token=x",
        "%ff=1",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_bad_option_is_refused(gateway: Gateway, method: str, query: str) -> None:
    path = "/orders" if method == "POST" else f"/orders/{uuid.uuid4()}"
    refused = gateway.call(method, f"{path}?{query}", message=1)
    assert refused.status_code == 400
    assert gateway.mq.queues() == []


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/orders?expires_in=0", {}, "expires_in takes seconds, more than 0, at most a year (31,536,000)."),
        ("/orders?delay=1e9", {}, "delay takes seconds, from 0 to a year (31,536,000)."),
        ("/orders?delay=1&at=2026-12-24T18:00:00Z", {}, "at cannot go with delay: give one of them."),
        ("/orders", {"Idempotency-Key": ""}, "Idempotency-Key takes text of 1 to 512 characters."),
    ],
)
def test_a_refusal_spells_what_it_names_as_the_request_does(
    gateway: Gateway, path: str, headers: dict[str, str], told: str
) -> None:
    refused = gateway.call("POST", path, message=1, headers=headers)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == told


def test_a_key_of_another_body_is_named_as_the_header(gateway: Gateway) -> None:
    keyed = {"Idempotency-Key": "order 7"}
    gateway.call("POST", "/orders", message=1, headers=keyed)
    told = gateway.call("POST", "/orders", message=2, headers=keyed).json()["error"]["message"]
    assert told.startswith("This Idempotency-Key was used in this queue before")


def test_an_idempotency_key_makes_the_id(gateway: Gateway) -> None:
    keyed = {"Idempotency-Key": "order 7"}
    first = gateway.call("POST", "/orders", message=1, headers=keyed)
    assert first.json()["id"] == id_text(derived_id(CREDENTIALS.app, QUEUE, "order 7"))
    again = gateway.call("POST", "/orders", message=1, headers=keyed)
    assert (again.status_code, again.json()) == (201, first.json())
    assert code(gateway.call("POST", "/orders", message=2, headers=keyed)) == (409, "message_conflict")
    assert gateway.mq.stats(QUEUE).ready == 1
    for key in ("", "x" * 513, "é"):
        assert gateway.call("POST", "/orders", message=1, headers={"Idempotency-Key": key.encode()}).status_code == 400
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert gateway.call("POST", "/orders", message=1, headers=twice).status_code == 400


# --- Headers ---

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_headers_go_with_the_message(gateway: Gateway, method: str) -> None:
    path = "/orders" if method == "POST" else f"/orders/{uuid.uuid4()}"
    given = {"Redisq-Header-Tenant": "a=b", "redisq-header-x-1": "", "traceparent": TRACE, "tracestate": "x=1"}
    id = gateway.call(method, path, message={"n": 1}, headers=given).json()["id"]
    found = gateway.call("GET", f"/orders/{id}").json()
    assert (found["request"], found["headers"]) == ({"n": 1}, {"tenant": "a=b", "x-1": "", "traceparent": TRACE})
    assert gateway.mq.get_message(QUEUE, id).headers == found["headers"]


def test_a_repeat_under_another_trace_is_the_same_message(gateway: Gateway) -> None:
    ids = {
        gateway.call("POST", "/orders", message=1, headers={"Idempotency-Key": "k", **trace}).json()["id"]
        for trace in ({"traceparent": TRACE}, {"traceparent": TRACE.replace("4", "5")}, {})
    }
    (id,) = ids
    assert gateway.mq.get_message(QUEUE, id).headers == {"traceparent": TRACE}


@pytest.mark.parametrize(
    "trace", [[("traceparent", "x")], [("traceparent", TRACE)] * 2, [("traceparent", TRACE + "\xe9")]], ids=str
)
def test_a_malformed_trace_counts_as_none(gateway: Gateway, trace: list[tuple[str, str]]) -> None:
    headers = [(name.encode(), text.encode("latin-1")) for name, text in trace]
    id = gateway.call("POST", "/orders", message=1, headers=headers).json()["id"]
    assert gateway.mq.get_message(QUEUE, id).headers == {}


def test_a_header_of_the_message_counts_more_than_the_requests_trace(gateway: Gateway) -> None:
    headers = {"traceparent": TRACE, "Redisq-Header-Traceparent": "mine"}
    id = gateway.call("POST", "/orders", message=1, headers=headers).json()["id"]
    assert gateway.mq.get_message(QUEUE, id).headers == {"traceparent": "mine"}


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Redisq-Header-Tenant", b"a"), (b"redisq-header-tenant", b"a")],
        [(b"Redisq-Header-Tenant", "é".encode())],
        [(b"Redisq-Header-Tenant", b"a\tb")],
        [(b"Redisq-Header-", b"a")],
        [(b"Redisq-Header-a_b", b"a")],
        [(b"Redisq-Header-a", b"x" * 8192)],
        [(b"Redisq-Header-%d" % number, b"") for number in range(65)],
    ],
    ids=lambda headers: str(headers)[:60],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_bad_header_is_refused(gateway: Gateway, method: str, headers: list[tuple[bytes, bytes]]) -> None:
    path = "/orders" if method == "POST" else f"/orders/{uuid.uuid4()}"
    refused = gateway.call(method, path, message=1, headers=headers)
    assert refused.status_code == 400
    assert "headers=" not in refused.json()["error"]["message"]
    assert gateway.mq.queues() == []


# --- An id of the client's ---


def test_put_says_whether_the_message_is_new(gateway: Gateway) -> None:
    id = str(uuid.uuid4())
    first = gateway.call("PUT", f"/orders/{id}", message={"a": 1})
    assert (first.status_code, first.json(), first.headers["Location"]) == (201, {"id": id}, f"/orders/{id}")
    again = gateway.call("PUT", f"/orders/{id}", message={"a": 1})
    assert (again.status_code, again.json()) == (200, {"id": id})
    assert code(gateway.call("PUT", f"/orders/{id}", message={"a": 2})) == (409, "message_conflict")
    gateway.call("DELETE", f"/orders/{id}")
    assert gateway.call("PUT", f"/orders/{id}", message={"a": 1}).status_code == 200  # remembered for dedup_window
    assert gateway.mq.stats(QUEUE).queued == 1


def test_many_puts_at_once_have_one_winner(gateway: Gateway) -> None:
    id = uuid.uuid4()

    async def race() -> list[int]:
        transport = httpx.ASGITransport(gateway.app)
        headers = {"Authorization": f"Bearer {gateway.token()}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as http:
            answers = await asyncio.gather(*(http.put(f"/orders/{id}", json=1) for _ in range(20)))
        return sorted(answer.status_code for answer in answers)

    assert gateway.runner.run(race()) == [200] * 19 + [201]


@pytest.mark.parametrize(
    "id", ["x", "ABCDEF00-74a0-47e1-b10d-5acf29d040c4", "05749898-74a0-47e1-b10d-5acf29d040c", "1"]
)
def test_an_odd_id_is_no_message(gateway: Gateway, id: str) -> None:
    assert code(gateway.call("PUT", f"/orders/{id}", message=1)) == (400, "invalid_message")
    assert code(gateway.call("GET", f"/orders/{id}")) == (404, "message_not_found")
    assert code(gateway.call("DELETE", f"/orders/{id}")) == (404, "message_not_found")


# --- Limits ---


def test_what_is_too_large_is_refused(make_gateway: MakeGateway, real_server: Any, namespace: str) -> None:
    gateway = make_gateway(settings_for(real_server.url, namespace, max_bytes=1000))
    assert code(gateway.call("POST", "/orders", message="x" * 1000)) == (413, "message_too_large")
    refused = gateway.call("POST", "/orders", content=b" " * 100_000, headers=JSON)
    assert code(refused) == (413, "message_too_large")
    assert refused.headers["Connection"] == "close"
    assert gateway.mq.stats(QUEUE).queued == 0


def test_a_queues_own_limit_counts(gateway: Gateway) -> None:
    gateway.mq.define(QUEUE, max_bytes=5_000_000)
    assert gateway.call("POST", "/orders", message="x" * 4_000_000).status_code == 201
    assert code(gateway.call("POST", "/other", message="x" * 4_000_000)) == (413, "message_too_large")
    gateway.mq.define(QUEUE, max_length=1)
    full = gateway.call("POST", "/orders", message=1)
    assert code(full) == (429, "queue_full")
    assert int(full.headers["Retry-After"]) >= 1


# --- Waiting ---


def test_a_finished_message_is_waited_for(gateway: Gateway, finish: Any) -> None:
    id = queued(gateway)
    finish(id)
    found = gateway.call("GET", f"/orders/{id}?wait=30")
    assert found.json()["status"] == Status.COMPLETE
    assert "Preference-Applied" not in found.headers


def test_a_wait_ends_with_the_message_as_it_stands(gateway: Gateway) -> None:
    id = queued(gateway)
    assert gateway.call("GET", f"/orders/{id}?wait=0.05").json()["status"] == "PENDING"
    assert gateway.call("GET", f"/orders/{id}?wait=0").json()["status"] == "PENDING"


@pytest.mark.parametrize("wait", ["31", "30.1", "-1", "x", "", "nan", "1e2"])
def test_a_wait_has_bounds(gateway: Gateway, wait: str) -> None:
    assert code(gateway.call("GET", f"/orders/{queued(gateway)}?wait={wait}")) == (400, "bad_request")


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("wait=30", "wait=30"), ("wait=99", "wait=30"), ("respond-async, Wait = 7", "wait=7"), ("return=minimal", None)],
)
def test_a_preferred_wait(gateway: Gateway, finish: Any, prefer: str, applied: str | None) -> None:
    id = queued(gateway)
    finish(id)
    found = gateway.call("GET", f"/orders/{id}", headers={"Prefer": prefer})
    assert found.status_code == 200
    assert found.headers.get("Preference-Applied") == applied


def test_a_conflict_tells_nothing_of_the_other_message(gateway: Gateway) -> None:
    """Whoever may queue here can meet another application's id, as those of keys are public arithmetic."""
    told = set()
    for number, become in enumerate((lambda _: None, lambda id: gateway.mq.delete_message(QUEUE, id))):
        id = id_text(derived_id(CREDENTIALS.app, QUEUE, f"key-{number}"))
        gateway.mq.queue_message(QUEUE, {"quiet": "body"}, id=id, delay=60 * number, priority=number)
        become(id)
        for headers, method, path in (
            ({"Idempotency-Key": f"key-{number}"}, "POST", "/orders"),
            ({}, "PUT", f"/orders/{id}"),
        ):
            answer = gateway.call(method, path, message="guess", headers=headers)
            assert answer.status_code == 409
            error = answer.json()["error"]
            error.pop("request_id")
            assert error.keys() == {"code", "message"}
            assert "Location" not in answer.headers
            assert not any(part in answer.text for part in (id, "quiet", 'body":'))
            told.add((method, error["message"]))
    assert len(told) == 2, "the same whatever became of the other one"
