"""Queues that are open to anybody: who opens them, what anybody may do there, and under which names."""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict
from typing import Any

import pytest

from redisq import Definition
from redisq.errors import InvalidSettings
from redisq.gateway.access import closed
from redisq.gateway.requests import hosts
from redisq.gateway.settings import GatewaySettings
from tests.conftest import settings_for
from tests.gateway.conftest import OPENED, QUEUE, Gateway, MakeGateway


@pytest.fixture
def open(make_gateway: MakeGateway) -> Gateway:
    """A gateway at which the queue `open` is."""
    gateway = make_gateway(**OPENED)
    gateway.mq.define("open", security="none")
    return gateway


def ask(gateway: Gateway, queue: str, **headers: str) -> int:
    return gateway.call("POST", f"/{queue}", token=None, message=1, headers=headers).status_code


# --- Who opens them ---


def test_an_open_queue_takes_anybody_for_its_messages_alone(open: Gateway) -> None:
    made = open.call("POST", "/open", token=None, message=1)
    assert made.status_code == 201
    path = made.headers["Location"]
    assert open.call("GET", path, token=None).json()["request"] == 1
    assert open.call("DELETE", path, token=None).status_code == 204
    for method, route in (
        ("GET", "/open"),
        ("GET", "/open/_config"),
        ("PATCH", "/open/_config"),
        ("PUT", "/open/_config"),
        ("GET", "/open/_dead"),
        ("POST", "/open/_redrive"),
        ("POST", "/open/_purge"),
        ("POST", "/open/_pause"),
        ("POST", "/open/_resume"),
        ("GET", "/_queues"),
        ("POST", "/orders"),
    ):
        assert open.call(method, route, token=None, message={}).status_code == 401, route
    assert open.call("POST", "/open", token="garbage", message=1).status_code == 401
    assert open.call("POST", "/open", token=open.token(queues=["orders"]), message=1).status_code == 403


@pytest.mark.parametrize(
    ("open_queues", "opened"),
    [
        ("", set()),
        ("open", {"open"}),
        ("*", {"open", "open.2"}),
        ("open*, other", {"open", "open.2"}),
        ("ope, open.", set()),
        ("other", set()),
    ],
)
def test_a_queue_is_open_when_the_setting_and_its_definition_say_so(
    make_gateway: MakeGateway, open_queues: str, opened: set[str]
) -> None:
    gateway = make_gateway(open_queues=open_queues, hosts="gateway")
    for name in ("open", "open.2"):
        gateway.mq.define(name, security="none")
    gateway.mq.define("other", security="token")
    found = {name for name in ("open", "open.2", "other", "unknown") if ask(gateway, name) == 201}
    assert found == opened
    assert {ask(gateway, name) for name in {"open", "open.2", "other", "unknown"} - opened} <= {401}


def test_a_queue_that_is_not_named_costs_no_question(open: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redisq.gateway.access.definitions.Definitions.of", lambda *_: pytest.fail("Redis was asked"))
    assert ask(open, "unknown") == 401


def test_a_queue_that_is_closed_is_closed(make_gateway: MakeGateway, open: Gateway) -> None:
    assert ask(open, "open") == 201
    open.mq.define("open", security=None)
    again = make_gateway(**OPENED)  # which remembers nothing
    assert ask(again, "open") == 401


@pytest.mark.parametrize("names", ["-x", "a b", "a*b", "**", "/"])
def test_what_is_no_queues_name_opens_none(names: str) -> None:
    with pytest.raises(InvalidSettings, match=r"REDISQ_HTTP_OPEN_QUEUES.*no queue's name"):
        GatewaySettings(open_queues=names)


# --- What a token with `admin` cannot do ---


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("before", [None, "none", "token"])
def test_security_is_not_set_over_http(open: Gateway, method: str, before: str | None) -> None:
    """Else a token of half a minute opened a queue for good."""
    open.mq.define(QUEUE, security=before, max_attempts=7)
    for value in (None, "none", "token"):
        answer = open.call(method, f"/{QUEUE}/_config", message={"security": value, "max_attempts": 8})
        assert answer.status_code == (200 if value == before else 403), value
        if value != before:
            assert "redisq queues define" in answer.json()["error"]["message"]
    done = open.call(method, f"/{QUEUE}/_config", message={"lease": 60})
    assert done.json() == asdict(open.mq.define(QUEUE))
    kept = {} if method == "PUT" else {"max_attempts": 8}
    assert open.mq.define(QUEUE) == Definition(security=before, lease=60, **kept)


def test_no_other_route_opens_a_queue(open: Gateway) -> None:
    for method, path in (("POST", "_pause"), ("POST", "_resume"), ("POST", "_purge"), ("POST", "_redrive")):
        open.call(method, f"/{QUEUE}/{path}")
    assert open.mq.define(QUEUE).security is None
    assert ask(open, QUEUE) == 401


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_what_all_queues_share_is_not_taken_over_http(
    make_gateway: MakeGateway, real_server: Any, namespace: str, method: str
) -> None:
    """The gateway's memory, and that of Redis: its own settings bound what a queue may be given there."""
    gateway = make_gateway(settings_for(real_server.url, namespace, max_bytes=1000, max_length=50))
    for change, status in (
        ({"max_bytes": 1000, "max_length": 50}, 200),
        ({"max_bytes": 10, "max_length": 1}, 200),
        ({"max_bytes": None, "max_length": None}, 200),
        ({"max_bytes": 1001}, 403),
        ({"max_length": 51}, 403),
        ({"max_length": 0}, 403),
        ({"max_bytes": 0}, 400),
        ({"max_bytes": "x"}, 400),
    ):
        assert gateway.call(method, f"/{QUEUE}/_config", message=change).status_code == status, change
    gateway.mq.define(QUEUE, max_bytes=5000)
    assert gateway.call(method, f"/{QUEUE}/_config", message=asdict(gateway.mq.define(QUEUE))).status_code == 200
    assert gateway.mq.define(QUEUE).max_bytes == 5000


# --- After an upgrade ---


def test_queues_that_look_open_and_are_not_are_told_of(
    make_gateway: MakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make_gateway(open_queues="wanted.*")
    gateway.mq.queue_message(QUEUE, 1)
    for name in ("wanted.1", "once-open"):
        gateway.mq.define(name, security="none")
    caplog.set_level(logging.WARNING, "redisq.gateway")
    gateway.runner.run(closed.tell(gateway.context))
    (line,) = (record.getMessage() for record in caplog.records)
    assert "once-open" in line
    assert "REDISQ_HTTP_OPEN_QUEUES" in line
    assert "wanted" not in line
    assert QUEUE not in line
    found = {finding.code: finding.severity for finding in gateway.mq.doctor("once-open")}
    assert found["security-none"] == "warning"
    assert "security-none" not in {finding.code for finding in gateway.mq.doctor(QUEUE)}


# --- Under which names ---

KNOWN = [
    *("localhost", "LOCALHOST", "localhost:8080", "localhost.", "mq.localhost:1", "127.0.0.1", "127.0.0.1:8080"),
    *("192.0.2.7", "10.0.0.1:80", "[::1]", "[::1]:8080", "[2001:db8::7]:80", "127.0.0.1."),
    *("mq.example", "MQ.Example:8080", "mq.example.", "mq.example.:443", "xn--bcher-kva.example"),
]
STRANGE = [
    *("evil.example", "evil.example:8080", "mq.example.evil.example", "evilmq.example", "sub.mq.example", "example"),
    *("localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "0.0.0.0:80", "[::]", "[::ffff:0.0.0.0]", ""),
    *("127.1", "2130706433", "0x7f.0.0.1", "localhost..", "[::1].evil.example", "localhost:80@evil.example", "::1"),
]
NAMES = "mq.example, Bücher.example"


@pytest.mark.parametrize("host", [*KNOWN, *STRANGE])
def test_a_host_is_known_however_it_is_spelled(host: str) -> None:
    assert hosts.is_known(host, GatewaySettings(hosts=NAMES).hosts) is (host in KNOWN)


def test_names_are_read_however_they_are_written() -> None:
    assert GatewaySettings(hosts="MQ.Example:8080,a.b., [::1]:80").hosts == ("mq.example", "a.b", "::1")
    for name in ("*", "*.example", "http://mq.example", "mq example", "mq/x", "-", "a:b:c", "[x]"):
        with pytest.raises(InvalidSettings, match=r"REDISQ_HTTP_HOSTS.*no name of a host"):
            GatewaySettings(hosts=name)


def test_an_open_queue_answers_to_names_that_are_known(make_gateway: MakeGateway) -> None:
    """Else a site whose own name leads here would read and take what is there, as a part of itself (DNS rebinding)."""
    gateway = make_gateway(open_queues="open", hosts="mq.example")
    gateway.mq.define("open", security="none")
    id = gateway.mq.queue_message("open", "quiet")
    for host, status in (("mq.example:80", 200), ("127.0.0.1", 200), ("evil.example", 403), ("gateway", 403)):
        for method, path in (("GET", f"/open/{id}"), ("POST", "/open/_claim"), ("HEAD", f"/open/{id}")):
            answer = gateway.call(method, path, token=None, headers={"Host": host})
            assert answer.status_code == status, (host, path)
            if status == 403 and method != "HEAD":
                assert "REDISQ_HTTP_HOSTS" in answer.json()["error"]["message"]
                assert "quiet" not in answer.text
        assert gateway.call("GET", f"/open/{id}", headers={"Host": host}).status_code == 200, "it shows a token"
        closed, unknown = (ask(gateway, name, Host=host) for name in (QUEUE, "unknown"))
        assert closed == unknown == 401


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [("mq.example", 404), ("evil.example", 403), ("mq.example, evil.example", 403), ("evil.example,mq.example", 403)],
)
def test_what_a_proxy_was_asked_for_has_to_be_known_too(make_gateway: MakeGateway, forwarded: str, status: int) -> None:
    """A plain proxy_pass makes its own address the Host; what it forwards makes up for no Host that is strange."""
    gateway = make_gateway(open_queues="open", hosts="mq.example")
    gateway.mq.define("open", security="none")
    path = f"/open/{uuid.uuid4()}"
    for host, wanted in (("127.0.0.1:8080", status), ("mq.example", status), ("evil.example", 403)):
        headers = {"Host": host, "X-Forwarded-Host": forwarded}
        assert gateway.call("GET", path, token=None, headers=headers).status_code == wanted


def test_metrics_that_need_no_token_answer_to_names_that_are_set(make_gateway: MakeGateway) -> None:
    for names, found in (("", [200, 200, 200]), ("gateway", [200, 200, 403])):
        gateway = make_gateway(metrics_allow="127.0.0.1", hosts=names)
        there = ("gateway", "127.0.0.1:9", "evil.example")
        asked = [gateway.call("GET", "/_metrics", token=None, headers={"Host": host}).status_code for host in there]
        assert asked == found
        assert gateway.call("GET", "/_metrics", headers={"Host": "evil.example"}).status_code == 200
        if names:  # a page of that site can send any token
            assert gateway.call("GET", "/_metrics", token="x", headers={"Host": "evil.example"}).status_code == 401


def test_without_tokens_it_answers_to_names_that_are_known(
    make_gateway: MakeGateway, real_server: Any, namespace: str
) -> None:
    gateway = make_gateway(settings_for(real_server.url, namespace, auth="none"), hosts="mq.example")
    gateway.mq.define(QUEUE, lease=30)
    for host, status in (("mq.example:80", 200), ("MQ.EXAMPLE.", 200), ("192.0.2.1", 200), ("evil.example", 403)):
        for path in ("/_queues", "/_ui", f"/{QUEUE}", "/_metrics", "/_health", "/_docs"):
            assert gateway.call("GET", path, token=None, headers={"Host": host}).status_code == status, (host, path)
    headers = {"Host": "127.0.0.1", "X-Forwarded-Host": "evil.example"}
    assert gateway.call("GET", "/_queues", token=None, headers=headers).status_code == 403


def test_what_tells_nothing_of_queues_answers_to_any_name(gateway: Gateway) -> None:
    for path in ("/_health", "/_ready", "/_docs", "/_openapi.json", "/_ui/sign-in"):
        assert gateway.call("GET", path, token=None, headers={"Host": "any.example"}).status_code == 200, path
