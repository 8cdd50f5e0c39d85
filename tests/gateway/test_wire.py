"""The gateway on the wire: streams, long waits, clients that go away, odd paths; curl, Node and httpx do the same."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from redisq import AsyncRedisQ
from redisq.cli import logs
from redisq.gateway.access.limits import Limits
from redisq.gateway.requests.errors import TooManyRequests
from redisq.gateway.server.addresses import client_of, networks
from tests.conftest import CREDENTIALS, settings_for
from tests.gateway.conftest import MASTER, QUEUE, Gateway, Served
from tests.support.servers.proxy import until

NDJSON = {"Content-Type": "application/x-ndjson"}


class Wire:
    """A bare connection: what is sent is what is written here."""

    def __init__(self, served: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=20)
        self.file = self.socket.makefile("rb")

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def line(self) -> str:
        return self.file.readline().decode().rstrip()

    def head(self) -> tuple[str, dict[str, str]]:
        status, headers = self.line(), {}
        while line := self.line():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = self.head()
        return int(status.split()[1]), headers, self.file.read(int(headers.get("content-length", 0)))

    def chunk(self) -> bytes:
        found = self.file.read(int(self.line(), 16))
        assert self.line() == ""
        return found


@pytest.fixture
def wire(served: Served) -> Iterator[Wire]:
    wire = Wire(served)
    yield wire
    wire.file.close()
    wire.socket.close()


def request(served: Served, method: str, path: str, *headers: str, token: str | None = None) -> str:
    given = token or served.gateway.token()
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {given}", *headers, "", ""]
    return "\r\n".join(lines)


# --- Any client ---


def test_httpx(served: Served) -> None:
    with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {served.gateway.token()}"}) as http:
        path = http.post("/orders", json={"sku": "A-1"}).headers["Location"]
        assert http.get(path).json()["status"] == "PENDING"
        assert http.delete(path).status_code == 204
        assert http.get(path).status_code == 404


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl(served: Served, tmp_path: Path) -> None:
    def curl(*arguments: str) -> Any:
        command = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", "-H"]
        done = subprocess.run(
            [*command, f"Authorization: Bearer {served.gateway.token()}", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        *body, status = done.stdout.splitlines()
        return int(status), json.loads("\n".join(body)) if body and body != [""] else None

    status, made = curl("--json", '{"sku": "A-1"}', f"{served.url}/orders")
    assert status == 201
    url = f"{served.url}/orders/{made['id']}"
    assert curl(url)[1]["request"] == {"sku": "A-1"}
    assert curl("-X", "DELETE", url) == (204, None)
    assert curl(url)[0] == 404
    large = tmp_path / "large.json"
    large.write_text(json.dumps("x" * 500_000))
    expecting = ("-H", "Content-Type: application/json", "-H", "Expect: 100-continue")
    status, _ = curl(*expecting, "--data-binary", f"@{large}", f"{served.url}/orders")
    assert status == 201


NODE = """
const [url, token] = process.argv.slice(1)
const headers = {Authorization: `Bearer ${token}`, "Content-Type": "application/json"}
const made = await fetch(`${url}/orders`, {method: "POST", headers, body: JSON.stringify({sku: "A-1"})})
const path = made.headers.get("Location")
const found = await (await fetch(url + path, {headers})).json()
const gone = await fetch(url + path, {method: "DELETE", headers})
const after = await fetch(url + path, {headers})
console.log(JSON.stringify([made.status, found.status, found.request, gone.status, after.status]))
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node here")
def test_fetch_of_node(served: Served) -> None:
    command = ["node", "--input-type=module", "-e", NODE, "--", served.url, served.gateway.token()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [201, "PENDING", {"sku": "A-1"}, 204, 404]


# --- Streams ---


def stream(served: Served, content: Any, **how: Any) -> httpx.Response:
    headers = {**NDJSON, "Authorization": f"Bearer {how.pop('token', None) or served.gateway.token()}"}
    return httpx.post(f"{served.url}/orders", content=content, headers=headers, timeout=20, **how)


def test_a_stream_is_answered_line_by_line_in_order(served: Served) -> None:
    lines = [*(json.dumps({"n": n}) for n in range(1000)), "nonsense", '{"a": 1, "a": 2}', "[", "null"]
    done = stream(served, "\n".join(lines))
    assert (done.status_code, done.headers["Content-Type"]) == (200, "application/x-ndjson")
    answers = [json.loads(line) for line in done.text.splitlines()]
    assert len(answers) == len(lines)
    assert [answer["error"]["code"] for answer in answers if "error" in answer] == ["invalid_message"] * 3
    found = served.gateway.mq.get_messages(QUEUE, [answer["id"] for answer in answers[:1000]])
    assert [message.request for message in found if message] == [{"n": n} for n in range(1000)]
    assert "id" in answers[-1]
    assert served.gateway.mq.stats(QUEUE).queued == 1001


def test_each_line_is_answered_before_the_next_is_sent(served: Served, wire: Wire) -> None:
    wire.send(request(served, "POST", "/orders", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"))
    wire.send("2\r\n1\n\r\n")
    status, headers = wire.head()
    assert (status, headers["transfer-encoding"]) == ("HTTP/1.1 200 OK", "chunked")
    for n in range(3):
        (answer,) = wire.chunk().splitlines()
        assert served.gateway.mq.get_message(QUEUE, json.loads(answer)["id"]).request == n + 1
        wire.send(f"2\r\n{n + 2}\n\r\n")
    wire.chunk()
    wire.send("0\r\n\r\n")
    assert wire.line() == "0"


def test_a_line_that_is_too_long_is_an_error_of_its_own(served: Served) -> None:
    long = b'"' + b"x" * 4_000_000 + b'"'
    done = stream(served, b"1\n" + long + b"\n2\n" + long)
    answers = [json.loads(line) for line in done.text.splitlines()]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, "message_too_large"] * 2


def test_a_refused_message_spoils_no_other(served: Served) -> None:
    served.gateway.mq.define(QUEUE, max_length=2)
    answers = [json.loads(line) for line in stream(served, "1\n2\n3\n").text.splitlines()]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, None, "queue_full"]


def test_lines_that_came_together_are_handled_some_at_once(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    queue_messages, counts = AsyncRedisQ.queue_messages, list[int]()

    async def counted(mq: AsyncRedisQ, queue: str, messages: Any) -> list[str]:
        counts.append(len(messages))
        return await queue_messages(mq, queue, messages)

    monkeypatch.setattr(AsyncRedisQ, "queue_messages", counted)
    done = gateway.call("POST", "/orders", content=b"1\n" * 2500, headers=NDJSON)
    assert len(done.text.splitlines()) == sum(counts) == gateway.mq.stats("orders").ready == 2500
    assert max(counts) <= 1000


def test_each_thousand_lines_wait_until_their_application_may_go_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is at its application's rate is slowed down, not cut."""
    admitted: list[bool] = []

    async def admit(_limits: Limits, application: str) -> None:
        assert application == CREDENTIALS.app
        admitted.append(len(admitted) % 3 == 0)  # every third time
        if not admitted[-1]:
            raise TooManyRequests(0.001)

    monkeypatch.setattr(Limits, "admit", admit)
    done = gateway.call("POST", "/orders", content=b"1\n" * 2500, headers=NDJSON)
    assert len(done.text.splitlines()) == gateway.mq.stats(QUEUE).ready == 2500
    assert admitted == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("nothing", [b"", b"\n", b"\r\n \n\t\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b" "])
def test_an_empty_stream_has_an_empty_answer(served: Served, nothing: bytes) -> None:
    done = stream(served, nothing)
    assert (done.status_code, done.content) == (200, b"")


@pytest.mark.parametrize("how", [{"params": {"delay": 1}}, {"headers": {"Idempotency-Key": "x"}}], ids=repr)
def test_a_stream_takes_no_options(gateway: Gateway, how: Any) -> None:
    headers = {**NDJSON, **how.get("headers", {})}
    assert gateway.call("POST", "/orders", content=b"1", **{**how, "headers": headers}).status_code == 400


def test_a_stream_that_breaks_off_leaves_what_was_answered(served: Served) -> None:
    wire = Wire(served)
    wire.send(request(served, "POST", "/orders", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"))
    wire.send('2\r\n1\n\r\n8\r\n{"cut": \r\n')
    wire.head()
    assert wire.chunk()
    wire.file.close()
    wire.socket.close()
    assert stream(served, b"2\n").status_code == 200  # the gateway goes on
    assert served.gateway.mq.stats(QUEUE).queued == 2


def test_a_client_that_reads_nothing_is_not_read_from(served: Served, wire: Wire) -> None:
    """Many megabytes of answers fit nowhere: what is sent meanwhile stays in the client. (Systems hold some 10 MB.)"""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.send(request(served, "POST", "/orders", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"))
    lines = b"1\n" * 8000
    piece = b"%x\r\n%b\r\n" % (len(lines), lines)
    wire.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        wire.send(piece * 2000)
    held = served.gateway.mq.stats(QUEUE).queued
    assert held < 2000 * 8000


# --- Long waits ---


def test_a_client_that_goes_away_ends_its_wait(served: Served) -> None:
    id = served.gateway.mq.queue_message(QUEUE, 1)
    waits = served.gateway.context.waits
    began, ended = _watched(waits)
    wire = Wire(served)
    wire.send(request(served, "GET", f"/orders/{id}?wait=30"))
    assert began.wait(20)
    wire.file.close()
    wire.socket.close()
    assert ended.wait(20)


def test_draining_answers_waits_as_things_stand(served: Served, wire: Wire) -> None:
    id = served.gateway.mq.queue_message(QUEUE, 1)
    waits = served.gateway.context.waits
    began, _ = _watched(waits)
    wire.send(request(served, "GET", f"/orders/{id}?wait=30"))
    assert began.wait(20)
    served.loop().call_soon_threadsafe(waits.drain)
    status, _, body = wire.answer()
    assert (status, json.loads(body)["status"]) == (200, "PENDING")


def _watched(waits: Any) -> tuple[threading.Event, threading.Event]:
    """Events for when a wait begins and when it has ended."""
    began, ended = threading.Event(), threading.Event()

    class Watched(set[Any]):
        def add(self, item: Any) -> None:
            super().add(item)
            began.set()

        def discard(self, item: Any) -> None:
            super().discard(item)
            ended.set()

    waits._waiting = Watched()
    return began, ended


# --- Requests ---


@pytest.mark.full
@pytest.mark.parametrize(
    "path",
    [
        "/%6Frders",
        "/orders%2Fx",
        "/orders%00",
        "/..",
        "/orders/..",
        "/./orders",
        "//orders",
        "/orders/",
        "/orders//x",
        "/-orders",
        "/" + "x" * 129,
        "/orders;x=1",
        "/orders@x",
        "/_unknown",
        "/",
        "/orders/_unknown",
        "/orders/x/y/z",
        "/or\xfeders",
    ],
)
def test_an_odd_path_is_no_queue(served: Served, wire: Wire, path: str) -> None:
    wire.send(request(served, "GET", path).encode("latin-1"))
    status, _, _ = wire.answer()
    assert status in (400, 404)
    assert served.gateway.mq.queues() == []


def test_the_head_of_an_answer_comes_alone(served: Served, wire: Wire) -> None:
    served.gateway.mq.define("orders", lease=30)
    wire.send(request(served, "HEAD", "/orders"))
    status, headers = wire.head()
    assert status == "HTTP/1.1 200 OK"
    assert int(headers["content-length"]) > 0
    wire.send(request(served, "GET", "/orders"))  # the same connection: nothing of a body came between
    assert wire.answer()[0] == 200


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/orders", "GET, HEAD, OPTIONS, POST"),
        (f"/orders/{uuid.UUID(int=1)}", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/orders/_config", "GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/orders/_purge", "OPTIONS, POST"),
    ],
)
def test_a_path_tells_its_methods(gateway: Gateway, path: str, allow: str) -> None:
    options = gateway.call("OPTIONS", path)
    assert (options.status_code, options.headers["Allow"]) == (204, allow)
    for method in ("TRACE", "DELETE" if "DELETE" not in allow else "PATCH", "BREW"):
        refused = gateway.call(method, path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed")
        assert refused.headers["Allow"] == allow


def test_what_is_too_large_is_refused_before_it_is_sent(served: Served, wire: Wire) -> None:
    head = ("Content-Type: application/json", "Content-Length: 1000000000", "Expect: 100-continue")
    wire.send(request(served, "POST", "/orders", *head))
    status, headers, body = wire.answer()
    assert (status, json.loads(body)["error"]["code"]) == (413, "message_too_large")
    assert headers["connection"] == "close"


def test_a_body_that_is_too_large_is_not_read_to_its_end(served: Served, wire: Wire) -> None:
    wire.send(request(served, "POST", "/orders", "Content-Type: application/json", "Transfer-Encoding: chunked"))
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    try:
        for _ in range(100_000):
            wire.send(piece)
    except OSError:
        pass
    else:
        pytest.fail("6 GB of white space were taken")
    assert served.gateway.mq.queues() == []


def test_a_body_is_awaited_only_from_who_may_send_one(served: Served, wire: Wire) -> None:
    head = ("Content-Type: application/json", "Content-Length: 1", "Expect: 100-continue")
    wire.send(request(served, "POST", "/orders", *head, token="x"))
    assert wire.answer()[0] == 401


# --- Everywhere ---


def test_safe_headers_and_a_request_id(gateway: Gateway) -> None:
    for response in (
        gateway.call("GET", "/orders"),
        gateway.call("GET", "/orders", token=None),
        gateway.call("GET", "/%00"),
        gateway.call("DELETE", "/orders"),
    ):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["X-Request-Id"]
        assert not [name for name in response.headers if name.startswith("access-control-")]
    ids = {gateway.call("GET", "/orders").headers["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_request_id_is_taken_when_it_is_well_formed(gateway: Gateway) -> None:
    def answered(*ids: str | bytes) -> str:
        return gateway.call("GET", "/orders", headers=[("X-Request-Id", id) for id in ids]).headers["X-Request-Id"]

    assert answered("trace-1.a_B") == "trace-1.a_B"
    for odd in ("", "a b", "x" * 65, "é".encode(), "<b>"):
        assert answered(odd) != odd
    assert answered("a", "b") not in ("a", "b")


def test_a_script_of_another_origin_may_call_only_when_it_is_allowed(make_gateway: Any) -> None:
    gateway = make_gateway(cors_origins="https://shop.example, https://desk.example")
    asking = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    asked = gateway.call("OPTIONS", "/orders", token=None, headers=asking)
    assert asked.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    made = gateway.call("POST", "/orders", message=1, headers={"Origin": "https://desk.example"})
    assert made.headers["Access-Control-Allow-Origin"] == "https://desk.example"
    other = gateway.call("POST", "/orders", message=1, headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert "X-Request-Id" in other.headers


def test_an_unexpected_error_tells_nothing_and_is_logged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError("secret of the body")

    monkeypatch.setattr("redisq.async_client.run", broken)
    token = gateway.token()
    with caplog.at_level("INFO", logger="redisq"):
        failed = gateway.call("POST", "/orders?delay=1", message="a body", token=token)
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert failed.headers["X-Request-Id"] in caplog.text
    assert "KeyError at test_wire.py" in caplog.text
    assert "POST /orders 500" in caplog.text
    for secret in ("secret of", "a body", token, "delay"):
        assert secret not in caplog.text + failed.text


def test_a_path_that_holds_a_token_or_a_secret_is_not_logged(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    token = gateway.token(queues=["a"], ops=["get"])
    with caplog.at_level("INFO", logger="redisq"):
        gateway.call("GET", f"/{token[:120]}")
        gateway.call("GET", f"/orders/{token}")
        gateway.call("GET", f"/orders?token={token}")
        gateway.call("GET", f"/{CREDENTIALS.secret()}")
        gateway.call("GET", f"/orders/{MASTER.text()}")
    for secret in (token[:40], CREDENTIALS.secret()[5:], MASTER.text()[5:]):
        assert secret not in caplog.text


# --- Without Redis ---


def test_without_redis_requests_are_to_be_tried_again(make_gateway: Any, start_server: Any, namespace: str) -> None:
    server = start_server()
    gateway = make_gateway(settings_for(server.url, namespace, retry_deadline=0), open_queues="open", hosts="gateway")
    assert gateway.call("POST", "/orders", message=1).status_code == 201
    server.close()
    for method, path in (("POST", "/orders"), ("GET", "/orders"), ("GET", f"/orders/{uuid.uuid4()}")):
        how = {"message": 1} if method == "POST" else {}
        failed = gateway.call(method, path, **how)
        assert failed.status_code == 503
        assert failed.json()["error"]["code"] in ("unavailable", "indeterminate")
        assert int(failed.headers["Retry-After"]) >= 1
        assert server.url not in failed.text
    lines = gateway.call("POST", "/orders", content=b"1\n2\n", headers=NDJSON).text.splitlines()
    assert {json.loads(line)["error"]["code"] for line in lines} <= {"unavailable", "indeterminate"}
    assert gateway.call("POST", "/open", message=1, token=None).status_code == 503  # it might be an open queue
    assert gateway.call("POST", "/orders", message=1, token=None).status_code == 401


# --- Valid spellings ---


def test_a_token_may_follow_several_spaces(served: Served, wire: Wire) -> None:
    token = served.gateway.token()
    served.gateway.mq.define("orders", lease=30)
    for value in (f"Bearer  {token}", f"bearer     {token}", f"\t BEARER {token}"):
        wire.send(f"GET /orders HTTP/1.1\r\nHost: gateway\r\naUTHORIZATION: {value}\r\n\r\n")
        assert wire.answer()[0] == 200, value
    for value in (f"Bearer\t{token}", f"Bearer{token}", f"Bearer {token} x", f"Bearer {token}, Bearer {token}"):
        wire.send(f"GET /orders HTTP/1.1\r\nHost: gateway\r\nAuthorization: {value}\r\n\r\n")
        assert wire.answer()[0] == 401, value


@pytest.mark.parametrize(
    ("query", "delay"),
    [("?delay=9&", 9), ("?&delay=9", 9), ("?delay=9&&", 9), ("?", 0), ("?&", 0), ("?%64elay=%39", 9)],
)
def test_a_query_may_have_empty_parts(gateway: Gateway, query: str, delay: float) -> None:
    id = gateway.call("POST", f"/orders{query}", message=1).json()["id"]
    message = gateway.mq.get_message("orders", id)
    assert (message.available_at - message.queued_at).total_seconds() == delay


@pytest.mark.parametrize(
    "query", ["?delay", "?delay=", "?=9", "?delay=9;", "?Delay=9", "?delay=9&delay=9", "?delay=%ff"]
)
def test_a_query_that_says_something_else_is_refused(gateway: Gateway, query: str) -> None:
    assert gateway.call("POST", f"/orders{query}", message=1).status_code == 400


# --- The log ---

FORGED = [
    "/orders%20200%201.0%20ms%20192.0.2.1%20shop%20abc",
    "/orders%0a2026-01-01T00:00:00.000%20INFO%20forged",
    "/orders%0d%0aINFO%20forged",
    "/%1b[2J%1b[31mred",
    "/orders%e2%80%a8forged",
    "/orders%c2%85forged",
    '/orders%22%27"quoted',
    "/orders%09%0b%0c",
    "/orders%00",
    "/orders%",
    "/orders%zz%7f",
    "/%E0%A4%A",
]
TOKEN = "rq1.a.b.c"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_of_the_log_cannot_be_forged(served: Served, wire: Wire, form: str) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter() if form == "json" else logs.TextFormatter())
    log = logging.getLogger("redisq.gateway")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    odd = ["X-Request-Id: a b\tc", "X-Request-Id: a%20b", "X-Request-Id: \x1b[2J".replace("\x1b", "\xe2\x80\xa8")]
    try:
        wire.send(request(served, "GET", "/_begin"))  # a line of an earlier test's may still be on its way
        assert wire.answer()[0] == 404
        for number, path in enumerate(FORGED):
            wire.send(request(served, "GET", path, odd[number % 3], "User-Agent: a 200\tforged").encode("latin-1"))
            assert wire.answer()[0] == 404
        wire.send(request(served, "GET", f"/{TOKEN}"))
        wire.answer()
        wire.send(request(served, "GET", "/" + TOKEN.replace(".", "%2E").replace("r", "%72")))
        wire.answer()
        wire.send(request(served, "GET", "/_end"))
        assert wire.answer()[0] == 404
        until(lambda: "GET /_end 404" in written.getvalue())
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    told = written.getvalue().splitlines()  # at whatever ends a line
    begin, end = (next(i for i, line in enumerate(told) if f"GET /_{name} 404" in line) for name in ("begin", "end"))
    lines = told[begin + 1 : end]
    assert len(lines) == len(FORGED) + 2
    for path, line in zip([*FORGED, "(not shown)", "(not shown)"], lines, strict=True):
        assert line.isascii()
        assert line.isprintable()
        message = json.loads(line)["message"] if form == "json" else line.partition("]: ")[2] or line.split(" ", 3)[3]
        assert re.fullmatch(
            rf"GET {re.escape(path)} (200|404) [0-9.]+ ms 127\.0\.0\.1 (-|\w+) [A-Za-z0-9._-]+", message
        ), message


def test_whatever_a_server_hands_on_is_one_word_in_the_log(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="redisq.gateway"):
        gateway.call("GE T\n", "/orders", client="1.2.3.4")
    assert caplog.records[-1].getMessage().startswith("GE%20T%0A /orders 405 ")


@pytest.mark.parametrize("forwarded", ["fe80::1%a 200 forged", "fe80::1%\x1b[2J", "fe80::1%" + "x" * 60, "::1 x"])
def test_an_address_that_is_none_is_not_shown(forwarded: str) -> None:
    proxies = networks("127.0.0.1")
    assert client_of("127.0.0.1", [forwarded.encode()], proxies) == "127.0.0.1"
    assert client_of("127.0.0.1", [b"fe80::1%eth0"], proxies) == "fe80::1%eth0"
