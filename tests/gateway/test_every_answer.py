"""Every operation x every status that its description names: each can happen, with a code that stands there, too."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from redisq import embedded
from redisq.gateway.table import document
from redisq.tokens import OPS
from tests.conftest import settings_for
from tests.gateway.conftest import QUEUE, MakeGateway, Office

#: Of the server under the gateway, or of a bug: `test_server_slow` and `test_wire` have them.
ELSEWHERE = {"408", "431", "500"}
#: They ask no Redis, or do without: their 503 is the server's own, when it stops, or of a registry that was never read.
WITHOUT_REDIS = {"getHealth", "getMetrics", "getDocument", "getPage"}
LONG = b" " * 4_000_000  # more than is read of any body
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
}


class Asker:
    """Sends operations as their examples show them, but for what is changed, and notes the statuses of the answers."""

    def __init__(self, office: Office, name: str) -> None:
        self.office = office
        self.credentials = office.create(name, f"{','.join(sorted(OPS))}:*")
        self.statuses: set[tuple[str, str]] = set()

    def ask(self, name: str, *, queue: str = QUEUE, id: str = "", query: str = "", **how: Any) -> httpx.Response:
        """Send one. Whatever comes must be described: its status, its headers, and its code among the examples."""
        method, path, operation = OPERATIONS[name]
        kinds = operation.get("requestBody", {}).get("content", {})
        if kinds and "content" not in how:
            kind, content = next(iter(kinds.items()))
            body = how.pop("body", {**content["example"], "wait": 0} if name == "claim" else content["example"])
            how |= {"data": body} if "form" in kind else {"message": body}
        if name == "getToken":
            how = {"token": None, "auth": (self.credentials.app, self.credentials.secret()), **how}
        url = path.replace("{queue}", queue).replace("{id}", id or str(uuid.uuid4())) + query
        answer = self.office.gateway.call(method, url, **{"token": self.token(), **how})
        self._check(name, answer, operation["responses"][str(answer.status_code)])
        return answer

    def token(self, **how: Any) -> str:
        return self.office.gateway.token(credentials=self.credentials, **how)

    def _check(self, name: str, answer: httpx.Response, described: dict[str, Any]) -> None:
        self.statuses.add((name, str(answer.status_code)))
        assert all(header in answer.headers for header in described["headers"].keys() - {"Preference-Applied"})
        if answer.status_code >= 400:
            examples = described["content"]["application/json"]["examples"].values()
            assert _code(answer.json()) in {_code(example["value"]) for example in examples}, (name, answer.text)


def _code(body: dict[str, Any]) -> str:
    error = body["error"]
    return str(error if isinstance(error, str) else error["code"])


def wrongly(asker: Asker, name: str) -> None:
    """Send an operation in every way that is wrong for it, whatever it does."""
    _, path, operation = OPERATIONS[name]
    asker.ask(name)
    assert asker.ask(name, query="?unknown=1").status_code == 400
    if name == "getToken":
        assert asker.ask(name, auth=(asker.credentials.app, "wrong")).status_code == 401
    elif operation["security"]:
        past = asker.token(now=time.time() - 3600, ttl=60)
        assert [asker.ask(name, token=token).status_code for token in (None, "rq1.x", past)] == [401] * 3
        assert asker.ask(name, token=asker.token(queues=["elsewhere"])).status_code == 403
    if "{queue}" in path:
        assert asker.ask(name, queue="-").status_code == 404
    if "requestBody" in operation:
        kind = next(iter(operation["requestBody"]["content"]))
        wanted = (400, 400) if name == "getToken" else (413, 415)  # RFC 6749 knows one status for a wrong form
        large = asker.ask(name, content=LONG, headers={"Content-Type": kind})
        other = asker.ask(name, content=b"1", headers={"Content-Type": "text/plain"})
        assert (large.status_code, other.status_code) == wanted


def conflicts(asker: Asker) -> None:
    """Bring about what depends on what is there."""
    schema = {"schema": {"type": "object"}, "max_length": 1}
    asker.ask("replaceDefinition", queue="strict", body=schema)
    id = asker.ask("queueMessage", queue="strict", body={}).json()["id"]
    for name in ("queueMessage", "putMessage"):
        assert asker.ask(name, queue="strict", body=1).status_code == 422
        assert asker.ask(name, queue="strict", body={}).status_code == 429
    assert asker.ask("putMessage", queue="strict", id=id, body={}).status_code == 200
    assert asker.ask("putMessage", queue="strict", id=id, body={"a": 1}).status_code == 409
    key = {"Idempotency-Key": "k"}
    assert asker.ask("queueMessage", queue="keyed", headers=key).status_code == 201
    assert asker.ask("queueMessage", queue="keyed", headers=key, body=2).status_code == 409
    stream = asker.ask("queueMessage", content=b"1\n", headers={"Content-Type": "application/x-ndjson"})
    assert stream.status_code == 200
    assert asker.ask("getMessage", queue="strict", id=id).status_code == 200


def works(asker: Asker) -> None:
    """Settle deliveries, each in its way, and one with a result that no message can be."""
    for _ in range(5):
        asker.ask("queueMessage", queue="work")
    held = asker.ask("claim", queue="work").json()["deliveries"]
    bodies: list[tuple[str, dict[str, Any], int]] = [
        ("complete", {}, 204),
        ("complete", {"result": 2**70}, 422),
        ("fail", {"error": {"type": "T", "message": "m"}}, 200),
        ("renew", {}, 200),
        ("release", {}, 204),
    ]
    for delivery, (name, body, status) in zip(held, bodies, strict=True):
        answer = asker.ask(name, queue="work", id=delivery["id"], body={"receipt": delivery["receipt"], **body})
        assert answer.status_code == status
        stale = asker.ask(name, queue="work", id=delivery["id"], body={**body, "receipt": "9.AAAAAAAAAAAA"})
        assert stale.status_code == 409
    assert asker.ask("deleteMessage", queue="work", id=held[0]["id"]).status_code == 204
    (again,) = asker.ask("claim", queue="work").json()["deliveries"]
    assert asker.ask("cancelMessage", queue="work", id=again["id"]).status_code == 202
    assert asker.ask("cancelMessage", queue="work", id=held[1]["id"]).status_code == 200


def test_each_status_that_is_described_can_happen_and_no_other_does(
    make_gateway: MakeGateway,
    real_server: embedded.EmbeddedServer,
    start_server: Callable[[], embedded.EmbeddedServer],
    namespace: str,
) -> None:
    asker = Asker(Office(make_gateway, settings_for(real_server.url, namespace)), "asker")
    for name in OPERATIONS:
        wrongly(asker, name)
    conflicts(asker)
    works(asker)

    limited = Asker(Office(make_gateway, settings_for(real_server.url, namespace), rate=0.001), "limited")
    limited.ask("getStats")
    away = start_server()
    lost = Asker(Office(make_gateway, settings_for(away.url, namespace, retry_deadline=0.01)), "lost")
    away.close()
    for name, (_, _, operation) in OPERATIONS.items():
        if operation["security"]:
            assert limited.ask(name).status_code == 429
        assert (lost.ask(name).status_code == 503) == (name not in WITHOUT_REDIS | {"getToken"})

    described = {(name, status) for name, (*_, operation) in OPERATIONS.items() for status in operation["responses"]}
    seen = asker.statuses | limited.statuses | lost.statuses
    missing = {(name, status) for name, status in described - seen if status not in ELSEWHERE}
    assert missing == {(name, "503") for name in WITHOUT_REDIS | {"getToken"}}
