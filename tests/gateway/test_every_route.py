"""Every route x every way to have no right to it: a table without a gap, against a real registry of applications."""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from redisq import Credentials, tokens
from redisq.gateway.page.actions import OF_MESSAGE, OF_QUEUE
from redisq.gateway.page.session import COOKIE
from redisq.gateway.table import OPERATIONS
from redisq.operations import applications
from redisq.tokens import OPS
from tests.gateway.conftest import QUEUE, Gateway, Office

ID = str(uuid.uuid4())
#: Routes that a token opens: method, path, and what it must allow. `*` stands for all queues.
GUARDED = {
    ("POST", "/{queue}"): "queue",
    ("PUT", "/{queue}/{id}"): "queue",
    ("GET", "/{queue}/{id}"): "get",
    ("DELETE", "/{queue}/{id}"): "delete",
    ("POST", "/{queue}/{id}/_cancel"): "delete",
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
GUIDE = {("GET", "/_docs/guide"), ("GET", "/_docs/guide/{chapter}")}
#: Routes that ask for none.
OPEN = {
    ("POST", "/_token"),
    ("GET", "/_health"),
    ("GET", "/_ready"),
    ("GET", "/_openapi.json"),
    ("GET", "/_docs"),
    *GUIDE,
}
#: What is sent where a request without a body would be refused for that.
BODIES: dict[str, Any] = {
    "_complete": {"receipt": "1.AAAAAAAAAAAA"},
    "_fail": {},
    "_renew": {},
    "_release": {},
    "_claim": {},
}


_QUEUE, _MESSAGE = "/_ui/queues/{queue}", "/_ui/queues/{queue}/messages/{id}"
#: Pages that a cookie with a token opens, and what it must allow; for "" any good token will do.
PAGES = {
    ("GET", "/_ui"): "",
    ("GET", "/_ui/find"): "get",
    ("GET", _QUEUE): "stats",
    ("GET", _MESSAGE): "get",
    **{(method, f"{_QUEUE}/{action}"): "admin" for method in ("GET", "POST") for action in ("pause", "resume")},
    **{(method, f"{_QUEUE}/redrive"): "admin" for method in ("GET", "POST")},
    **{(method, f"{_MESSAGE}/redrive"): "admin" for method in ("GET", "POST")},
    **{(method, f"{_MESSAGE}/{action}"): "delete" for method in ("GET", "POST") for action in ("cancel", "delete")},
}
#: Which route of the API does, or shows, what a page does; its lists of messages are `RedisQ.list_messages`.
SAME = {
    _QUEUE: ("GET", "/{queue}"),
    _MESSAGE: ("GET", "/{queue}/{id}"),
    "/_ui/find": ("GET", "/{queue}/{id}"),
    f"{_QUEUE}/pause": ("POST", "/{queue}/_pause"),
    f"{_QUEUE}/resume": ("POST", "/{queue}/_resume"),
    f"{_QUEUE}/redrive": ("POST", "/{queue}/_redrive"),
    f"{_MESSAGE}/redrive": ("POST", "/{queue}/_redrive"),
    f"{_MESSAGE}/cancel": ("POST", "/{queue}/{id}/_cancel"),
    f"{_MESSAGE}/delete": ("DELETE", "/{queue}/{id}"),
}
#: Pages that ask for none: where to sign in and out, what every page is made of, and that there is no such page.
OPEN_PAGES = {
    *((method, "/_ui/sign-in") for method in ("GET", "POST")),
    ("POST", "/_ui/sign-out"),
    *(("GET", f"/_ui/static/{name}") for name in ("page.css", "page.js", "icon.svg")),
    *((method, "/_ui/{rest}") for method in ("GET", "POST")),
}


def routes_of(office: Office, *, pages: bool = False) -> set[tuple[str, str]]:
    return {
        (method, route.path_format)
        for route in office.gateway.app.routes
        for method in (route.methods or ()) - {"HEAD"}
        if route.path.startswith("/_ui") is pages
    }


def test_no_route_is_missing_from_the_table(office: Office) -> None:
    assert routes_of(office) == GUARDED.keys() | OPEN
    assert routes_of(office, pages=True) == PAGES.keys() | OPEN_PAGES


@dataclass
class Bearer:
    """Who holds tokens, and who once did."""

    office: Office
    good: Credentials
    disabled: Credentials
    poor: Credentials
    stranger: Credentials

    def sign(self, credentials: Credentials | None = None, **how: Any) -> str:
        how = {"ops": OPS, "queues": ["*"], "now": time.time(), **how}
        audience = how.pop("audience", self.office.gateway.context.settings.token_audience)
        return tokens.sign(credentials or self.good, audience=audience, **how)

    def revoked(self) -> str:
        token = self.sign()
        settings = self.office.gateway.context.settings
        self.office.change(applications.revoke(settings, self.good.app, token))
        return token

    def rotated(self) -> str:
        """A token of a key that is cut off."""
        settings = self.office.gateway.context.settings
        name = f"r{uuid.uuid4().hex[:8]}"
        token = self.sign(self.office.create(name, f"{','.join(sorted(OPS))}:*"))
        self.office.change(applications.rotate(settings, name, 0))
        return token


@pytest.fixture
def bearer(office: Office) -> Bearer:
    everything = f"{','.join(sorted(OPS))}:*"
    good, disabled = office.create("good", everything), office.create("disabled", everything)
    office.change(applications.switch(office.gateway.context.settings, "disabled", disabled=True))
    poor = office.create("poor", f"{','.join(sorted(OPS))}:other")
    return Bearer(office, good, disabled, poor, Credentials.generate("good"))


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
    "of a key that was rotated": (lambda b, _: b.rotated(), 401, "invalid_token"),
    "allowed to another queue": (lambda b, _: b.sign(b.poor), 403, "forbidden"),
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
        if method == "GET":
            bare = gateway.call("HEAD", path, token=token)
            assert (bare.status_code, bare.text) == (status, ""), path
    assert gateway.mq.queues() == []


def test_who_has_the_right_gets_in_everywhere(bearer: Bearer) -> None:
    """Else the table would say nothing: with a good token no route answers 401 or 403."""
    gateway = bearer.office.gateway
    gateway.mq.queue_message(QUEUE, 1)
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
            answer = bearer.office.gateway.call(method, path.replace("{chapter}", "http"), token=token, **how)
            assert answer.status_code == 200 or path == "/_token", path


# --- The page ---


def visit(gateway: Gateway, method: str, template: str, token: str | None) -> httpx.Response:
    """Send what a browser would that has a token in its cookie, and with it the tag that its forms hold."""
    path = template.replace("{queue}", QUEUE).replace("{id}", ID)
    headers = {"Cookie": f"{COOKIE}={token}"} if token else {}
    if method == "GET":
        query = {"queue": QUEUE, "id": ID} if path.endswith("/find") else {}
        return gateway.call("GET", path, token=None, headers=headers, params=query)
    tag = hmac.new((token or "").encode(), b"redisq/page/form/v1", "sha256").hexdigest()
    return gateway.call(
        "POST", path, token=None, headers={**headers, "Sec-Fetch-Site": "same-origin"}, data={"tag": tag}
    )


@pytest.mark.parametrize("case", CASES)
def test_who_has_no_right_sees_no_page_and_does_nothing_on_it(bearer: Bearer, case: str) -> None:
    make, status, _ = CASES[case]
    gateway = bearer.office.gateway
    for (method, template), op in sorted(PAGES.items()):
        token = make(bearer, op or "stats")
        answer = visit(gateway, method, template, token)
        wanted = 200 if not op and status == 403 and "address" not in case else status
        assert answer.status_code == wanted, (method, template)
        assert not token or token not in answer.text
        if wanted == 401:
            assert 'name="token"' in answer.text, "it leads to where one signs in"
    assert gateway.mq.queues() == []


def test_a_page_takes_what_the_api_takes_for_the_same() -> None:
    assert {template for (_, template), op in PAGES.items() if op} == SAME.keys()
    for (_, template), op in PAGES.items():
        assert not op or op == GUARDED[SAME[template]], template
    made = {f"{_QUEUE}/{name}": action.op for name, action in OF_QUEUE.items()}
    made |= {f"{_MESSAGE}/{name}": action.op for name, action in OF_MESSAGE.items()}
    for template, op in made.items():
        assert op == GUARDED[SAME[template]], template
    documented = {(one.method.upper(), one.path): one.op for one in OPERATIONS}
    for route in SAME.values():
        assert documented[route] == GUARDED[route]


def test_who_may_administer_and_not_delete_deletes_nothing_on_the_page(bearer: Bearer) -> None:
    gateway = bearer.office.gateway
    gateway.mq.queue_message(QUEUE, 1, id=ID)
    token = bearer.sign(ops=OPS - {"delete"})
    assert gateway.call("DELETE", f"/{QUEUE}/{ID}", token=token).status_code == 403
    for method in ("GET", "POST"):
        assert visit(gateway, method, f"{_MESSAGE}/delete", token).status_code == 403
    assert "/delete" not in visit(gateway, "GET", _MESSAGE, token).text
    assert "/delete" in visit(gateway, "GET", _MESSAGE, bearer.sign(ops=["get", "delete"])).text
    assert gateway.mq.stats(QUEUE).ready == 1


def test_who_has_the_right_sees_every_page(bearer: Bearer) -> None:
    gateway = bearer.office.gateway
    gateway.mq.queue_message(QUEUE, 1, id=ID)
    for (method, template), op in sorted(PAGES.items(), key=lambda page: page[0][1].endswith("delete")):
        token = bearer.sign(ops=[op or "stats"], queues=["*" if "{queue}" not in template else QUEUE])
        status = visit(gateway, method, template, token).status_code
        if template == f"{_MESSAGE}/redrive" and method == "POST":
            assert status == 404, "it is no dead letter"
        else:
            assert status in (200, 303), (method, template)
    assert gateway.mq.stats(QUEUE).ready == 0, "it was deleted at last"


def test_what_asks_for_no_token_shows_any_visitor_nothing_of_queues(bearer: Bearer) -> None:
    gateway = bearer.office.gateway
    gateway.mq.queue_message("quiet-queue", "quiet-body")
    for method, template in sorted(OPEN_PAGES):
        path = template.replace("{rest}", "no/such/page")
        for token in (None, "garbage", bearer.sign(bearer.disabled)):
            answer = visit(gateway, method, path, token)
            assert answer.status_code in (200, 303, 401, 404), (method, path)
            assert "quiet" not in answer.text
