"""Every route x every way to have no right to it: a table without a gap, against a real registry of applications."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from redisq import Credentials, directory, tokens
from redisq.tokens import OPS
from tests.gateway.conftest import QUEUE, Office

ID = str(uuid.uuid4())
#: Routes that a token opens: method, path, and what it must allow. `*` stands for all queues.
GUARDED = {
    ("POST", "/{queue}"): "queue",
    ("PUT", "/{queue}/{id}"): "queue",
    ("GET", "/{queue}/{id}"): "get",
    ("DELETE", "/{queue}/{id}"): "delete",
    ("GET", "/{queue}"): "stats",
    ("GET", "/_queues"): "stats",
    ("GET", "/{queue}/_config"): "stats",
    ("PUT", "/{queue}/_config"): "admin",
    ("PATCH", "/{queue}/_config"): "admin",
    ("GET", "/{queue}/_dead"): "admin",
    ("POST", "/{queue}/_redrive"): "admin",
    ("POST", "/{queue}/_purge"): "admin",
    ("POST", "/{queue}/_pause"): "admin",
    ("POST", "/{queue}/_resume"): "admin",
    ("POST", "/{queue}/_claim"): "work",
    ("POST", "/{queue}/{id}/_complete"): "work",
    ("POST", "/{queue}/{id}/_fail"): "work",
    ("POST", "/{queue}/{id}/_renew"): "work",
    ("POST", "/{queue}/{id}/_release"): "work",
    ("GET", "/_metrics"): "stats",
}
#: Routes that ask for none.
OPEN = {("POST", "/_token"), ("GET", "/_health"), ("GET", "/_ready"), ("GET", "/_openapi.json"), ("GET", "/_docs")}
#: What is sent where a request without a body would be refused for that.
BODIES: dict[str, Any] = {
    "_complete": {"receipt": "1.AAAAAAAAAAAA"},
    "_fail": {},
    "_renew": {},
    "_release": {},
    "_claim": {},
}


def routes_of(office: Office) -> set[tuple[str, str]]:
    return {
        (method, route.path_format)
        for route in office.gateway.app.routes
        for method in (route.methods or ()) - {"HEAD"}
        if not route.path.startswith("/_ui")
    }


def test_no_route_is_missing_from_the_table(office: Office) -> None:
    assert routes_of(office) <= GUARDED.keys() | OPEN


@dataclass
class Bearer:
    """Who holds tokens, and who once did."""

    office: Office
    good: Credentials
    disabled: Credentials
    stranger: Credentials

    def sign(self, credentials: Credentials | None = None, **how: Any) -> str:
        how = {"ops": OPS, "queues": ["*"], "now": time.time(), **how}
        audience = how.pop("audience", self.office.gateway.context.settings.token_audience)
        return tokens.sign(credentials or self.good, audience=audience, **how)

    def revoked(self) -> str:
        token = self.sign()
        settings = self.office.gateway.context.settings
        self.office.change(directory.revoke(settings, self.good.app, token))
        return token


@pytest.fixture
def bearer(office: Office) -> Bearer:
    everything = f"{','.join(sorted(OPS))}:*"
    good, disabled = office.create("good", everything), office.create("disabled", everything)
    office.change(directory.switch(office.gateway.context.settings, "disabled", disabled=True))
    return Bearer(office, good, disabled, Credentials.generate("good"))


Token = Callable[[Bearer, str], str | None]
#: How to have no right, and the status and the code of the answer.
CASES: dict[str, tuple[Token, int, str]] = {
    "no token": (lambda b, _: None, 401, "invalid_token"),
    "garbage": (lambda b, _: "rq1.x.y.z", 401, "invalid_token"),
    "expired": (lambda b, _: b.sign(now=time.time() - 3600, ttl=60), 401, "token_expired"),
    "not yet": (lambda b, _: b.sign(now=time.time() + 3600), 401, "invalid_token"),
    "wrong key of the application": (lambda b, _: b.sign(b.stranger), 401, "invalid_token"),
    "wrong audience": (lambda b, _: b.sign(audience="redisq:elsewhere"), 401, "invalid_token"),
    "wrong queue": (lambda b, _: b.sign(queues=["other", "order", f"{QUEUE}2*"]), 403, "forbidden"),
    "wrong op": (lambda b, op: b.sign(ops=OPS - {op}), 403, "forbidden"),
    "narrowed to other ops": (lambda b, op: tokens.narrow(b.sign(), ops=OPS - {op}), 403, "forbidden"),
    "narrowed to other queues": (lambda b, _: tokens.narrow(b.sign(), queues=["other"]), 403, "forbidden"),
    "narrowed to other pairs": (lambda b, op: tokens.narrow(b.sign(), scope=[f"{op}:other"]), 403, "forbidden"),
    "narrowed to the past": (lambda b, _: tokens.narrow(b.sign(), expires_at=time.time() - 60), 401, "token_expired"),
    "bound to another address": (lambda b, _: tokens.narrow(b.sign(), addresses=["192.0.2.1"]), 403, "forbidden"),
    "revoked": (lambda b, _: b.revoked(), 401, "invalid_token"),
    "narrowed from a revoked one": (lambda b, _: tokens.narrow(b.revoked(), queues=["*"]), 401, "invalid_token"),
    "disabled": (lambda b, _: b.sign(b.disabled), 401, "invalid_token"),
}


@pytest.mark.parametrize("case", CASES)
def test_who_has_no_right_is_refused_everywhere(bearer: Bearer, case: str) -> None:
    make, status, code = CASES[case]
    gateway = bearer.office.gateway
    for method, template in sorted(routes_of(bearer.office) & GUARDED.keys()):
        token = make(bearer, GUARDED[method, template])
        path = template.replace("{queue}", QUEUE).replace("{id}", ID)
        how = {"message": BODIES.get(path.rpartition("/")[2], 1)} if method in ("POST", "PUT", "PATCH") else {}
        answer = gateway.call(method, path, token=token, **how)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (method, path)
        if token:
            assert token not in answer.text
    assert gateway.mq.queues() == []


def test_who_has_the_right_gets_in_everywhere(bearer: Bearer) -> None:
    """Else the table would say nothing: with a good token no route answers 401 or 403."""
    gateway = bearer.office.gateway
    for method, template in sorted(routes_of(bearer.office) & GUARDED.keys()):
        op = GUARDED[method, template]
        queues = ["*"] if "{queue}" not in template else [QUEUE]
        path = template.replace("{queue}", QUEUE).replace("{id}", ID)
        how = {"message": {}} if method in ("POST", "PUT", "PATCH") else {}
        status = gateway.call(method, path, token=bearer.sign(ops=[op], queues=queues), **how).status_code
        assert status not in (401, 403, 404, 405, 500) or (status == 404 and "{id}" in template), (method, path)


def test_what_asks_for_no_token_takes_any(bearer: Bearer) -> None:
    for method, path in sorted(OPEN):
        for token in (None, "garbage"):
            how = {"data": {"grant_type": "x"}} if method == "POST" else {}
            answer = bearer.office.gateway.call(method, path, token=token, **how)
            assert answer.status_code == 200 or path == "/_token", path
