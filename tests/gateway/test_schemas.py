"""A queue's schema at the gateway: set there, checked there, and no fault of the client's when it cannot be used."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Raw
from tests.gateway.conftest import QUEUE, Gateway

SCHEMA = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number", "minimum": 0}}}
SECRET = "nobody-shall-read-this"


@pytest.fixture
def priced(gateway: Gateway) -> Gateway:
    answer = gateway.call("PATCH", f"/{QUEUE}/_config", message={"schema": SCHEMA})
    assert answer.json()["schema"] == SCHEMA
    return gateway


def test_what_does_not_fit_is_refused_with_every_place(priced: Gateway) -> None:
    assert priced.call("POST", "/orders", message={"price": 3}).status_code == 201
    for method, path in (("POST", "/orders"), ("PUT", "/orders/05749898-74a0-47e1-b10d-5acf29d040c4")):
        refused = priced.call(method, path, message={"price": -1, "note": SECRET})
        assert refused.status_code == 422
        error = refused.json()["error"]
        assert error["code"] == "schema_violation"
        assert [found["path"] for found in error["errors"]] == ["$.price"]
        assert SECRET not in refused.text
    assert priced.mq.stats(QUEUE).queued == 1


def test_lines_that_do_not_fit_leave_the_others_alone(priced: Gateway) -> None:
    content = b"".join(json.dumps({"price": price}).encode() + b"\n" for price in (1, -1, 2))
    lines = priced.call("POST", "/orders", content=content, headers={"Content-Type": "application/x-ndjson"}).text
    good, bad, last = map(json.loads, lines.splitlines())
    assert good.keys() == last.keys() == {"id"}
    assert bad["error"]["code"] == "schema_violation"
    assert priced.mq.stats(QUEUE).queued == 2


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/x.json"}, 5, []], ids=repr)
def test_a_bad_schema_is_refused_when_it_is_set(priced: Gateway, schema: object) -> None:
    refused = priced.call("PATCH", f"/{QUEUE}/_config", message={"schema": schema, "lease": 60})
    assert (refused.status_code, refused.json()["error"]["code"]) in [(400, "invalid_definition"), (400, "bad_request")]
    own = priced.call("GET", f"/{QUEUE}/_config").json()
    assert (own["schema"], own["lease"]) == (SCHEMA, None)


def test_a_schema_that_another_program_damaged_is_no_fault_of_the_client(
    raw_real: Raw, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    raw_real.redis.hset(raw_real.keys.config, "schema", "{")
    for headers, content in (("application/json", "{}"), ("application/x-ndjson", "{}\n")):
        refused = gateway.call("POST", "/orders", content=content, headers={"Content-Type": headers})
        assert "unavailable" in refused.text
        assert refused.status_code == (503 if headers == "application/json" else 200)
    assert "queue orders takes no messages" in caplog.text
    assert gateway.mq.stats(QUEUE).queued == 0
