"""Who gets in: headers, tokens, scopes, queues that are open to all. What is refused looks alike, changes nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import httpx
import pytest

from redisq import Credentials, tokens
from redisq.tokens import OPS
from tests.conftest import settings_for
from tests.gateway.conftest import OPENED, QUEUE, Gateway, MakeGateway

OTHER = Credentials.generate("other")


def bad_tokens(gateway: Gateway) -> dict[str, str]:
    """Tokens that are none here, for every reason but expiry."""
    good = gateway.token()
    return {
        "garbage": "x",
        "empty": "",
        "too large": "rq1." + "a" * 3000,
        "a JWT": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        "cut": good[:-1],
        "changed": good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1],
        "unknown application": gateway.token(credentials=OTHER),
        "other audience": gateway.token(audience="redisq:other"),
        "not yet valid": gateway.token(now=time.time() + 3600),
        "twice": f"{good} {good}",
        "a tab": f"\t{good}",
    }


def shape(response: Any) -> Any:
    """All of an answer but what names the request."""
    body = response.json()
    body["error"].pop("request_id")
    return response.status_code, body, {k: v for k, v in response.headers.items() if k != "x-request-id"}


def test_whatever_is_no_token_looks_alike(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    wanted = shape(gateway.call("GET", "/orders", token=None))
    assert wanted[0] == 401
    assert wanted[1]["error"]["code"] == "invalid_token"
    assert wanted[2]["www-authenticate"] == 'Bearer realm="redisq", error="invalid_token"'
    for why, token in bad_tokens(gateway).items():
        header = {"Authorization": f"Bearer {token}"}
        assert shape(gateway.call("GET", "/orders", token=None, headers=header)) == wanted, why
    good = gateway.token()
    for why, headers in {
        "two headers": [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")],
        "basic": [("Authorization", "Basic dXNlcjpwYXNz")],
        "no scheme": [("Authorization", good)],
        "a colon": [("Authorization", f"Bearer: {good}")],
        "not ASCII": [("Authorization", "Bearer é".encode())],
        "a cookie": [("Cookie", f"token={good}")],
    }.items():
        assert shape(gateway.call("GET", "/orders", token=None, headers=headers)) == wanted, why
    assert shape(gateway.call("GET", f"/orders?access_token={good}", token=None)) == wanted
    assert gateway.call("GET", f"/orders?access_token={good}").status_code == 400
    assert gateway.call("GET", "/orders", token=None, headers={"Authorization": f"bearer {good}"}).status_code == 200


def test_an_expired_token_is_told_so(gateway: Gateway) -> None:
    old = gateway.token(now=time.time() - 3600, ttl=60)
    refused = gateway.call("GET", "/orders", token=old)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "token_expired")


def test_an_unknown_queue_looks_like_a_forbidden_one(gateway: Gateway) -> None:
    gateway.mq.queue_message("secret1", 1)
    for token in (None, gateway.token(queues=["orders"])):
        known, unknown = (
            gateway.call("GET", f"/{name}/{uuid.uuid4()}", token=token) for name in ("secret1", "secret2")
        )
        assert shape(known) == tuple(part if not isinstance(part, dict) else _renamed(part) for part in shape(unknown))


def _renamed(part: Any) -> Any:
    import json

    return json.loads(json.dumps(part).replace("secret2", "secret1"))


@pytest.mark.parametrize("op", sorted(OPS))
def test_a_token_allows_its_operations_on_its_queues_alone(gateway: Gateway, op: str) -> None:
    token = gateway.token(ops=[op], queues=["orders", "mail*"])
    id = gateway.mq.queue_message(QUEUE, 1)
    calls = {
        "queue": ("PUT", f"/{{}}/{uuid.uuid4()}", {"message": 1}),
        "get": ("GET", f"/{{}}/{id}", {}),
        "stats": ("GET", "/{}", {}),
        "admin": ("GET", "/{}/_dead", {}),
        "delete": ("DELETE", f"/{{}}/{id}", {}),
    }
    for other, (method, path, how) in calls.items():
        allowed = gateway.call(method, path.format("orders"), token=token, **how).status_code
        assert (allowed < 300) is (other == op), other
        if other == op:
            assert gateway.call(method, path.format("mail.x"), token=token, **how).status_code in (200, 201, 404)
        for queue in ("order", "orders2", "Mail", "mai"):
            refused = gateway.call(method, path.format(queue), token=token, **how)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
            assert "insufficient_scope" in refused.headers["WWW-Authenticate"]


def test_a_narrowed_token_allows_less(gateway: Gateway) -> None:
    narrowed = tokens.narrow(gateway.token(), ops=["queue"], queues=["orders"])
    assert gateway.call("POST", "/orders", message=1, token=narrowed).status_code == 201
    assert gateway.call("POST", "/other", message=1, token=narrowed).status_code == 403
    assert gateway.call("GET", "/orders", token=narrowed).status_code == 403


def test_all_queues_are_listed_for_who_may_see_all(gateway: Gateway) -> None:
    gateway.mq.queue_message(QUEUE, 1)
    assert gateway.call("GET", "/_queues").json() == {"queues": ["orders"]}
    assert gateway.call("GET", "/_queues", token=gateway.token(queues=["o*", "orders"])).status_code == 403
    assert gateway.call("GET", "/_queues", token=gateway.token(ops=["get"])).status_code == 403
    assert gateway.call("GET", "/_queues", token=None).status_code == 401


def test_the_token_is_checked_again_when_a_wait_returns(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the door goes an hour ahead while the request waits: no sleep, and no message for it."""
    id = gateway.mq.queue_message(QUEUE, 1)
    token = gateway.token(ttl=60)
    assert gateway.call("GET", f"/orders/{id}?wait=0.01", token=token).status_code == 200
    times = iter([time.time(), time.time()])
    monkeypatch.setattr("redisq.gateway.access.guard.time.time", lambda: next(times, time.time_ns() / 1e9 + 3600))
    refused = gateway.call("GET", f"/orders/{id}?wait=0.01", token=token)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "token_expired")
    assert "request" not in refused.json()


# --- Limits ---


def test_bad_tokens_of_an_address_are_tried_a_few_times_only(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(failures=3)
    good = gateway.token()
    for token in (
        None,
        gateway.token(now=time.time() - 3600, ttl=60),
        "x",
        good[:-1],
        "y",
    ):  # the first two are no guess
        assert gateway.call("GET", "/orders", token=token).status_code == 401
    for token in ("x", good[:-2]):
        refused = gateway.call("GET", "/orders", token=token)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    gateway.mq.define(QUEUE, lease=30)
    for client in ("127.0.0.1", "192.0.2.1"):  # whoever shares the address is not locked out
        assert gateway.call("GET", "/orders", token=good, client=client).status_code == 200
    assert gateway.call("GET", "/orders", token="x", client="192.0.2.1").status_code == 401
    form = {"grant_type": "client_credentials", "client_id": "x", "client_secret": "x"}
    assert gateway.call("POST", "/_token", token=None, data=form).status_code == 429


def test_an_application_has_its_rate(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(rate=0.001, burst=2)
    gateway.mq.define(QUEUE, lease=30)
    assert [gateway.call("GET", "/orders").status_code for _ in range(3)] == [200, 200, 429]
    refused = gateway.call("GET", "/_queues")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
    other = make_gateway(rate=0.001, burst=2)  # another gateway of the same Redis and namespace
    assert other.call("GET", "/orders").status_code == 429


def test_long_waits_of_an_application_are_counted(make_gateway: MakeGateway) -> None:
    """It chooses the ids of its tokens itself, so they count for nothing."""
    gateway = make_gateway(waits_per_token=1)
    id, token = gateway.mq.queue_message(QUEUE, 1), gateway.token()
    narrowed, another = tokens.narrow(token, queues=["orders", "other"]), gateway.token()

    async def wait(http: httpx.AsyncClient, token: str) -> int:
        return (await http.get(f"/orders/{id}?wait=0.5", headers={"Authorization": f"Bearer {token}"})).status_code

    async def claim(http: httpx.AsyncClient, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await http.post("/other/_claim", json={"wait": 0.5}, headers=headers)).status_code

    async def both(first: Any, second: Any, other: str) -> list[int]:
        transport = httpx.ASGITransport(gateway.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            return list(await asyncio.gather(first(http, token), second(http, other)))

    for first, second, other in ((wait, wait, narrowed), (wait, claim, another), (claim, wait, another)):
        assert gateway.runner.run(both(first, second, other)) == [200, 429]


def test_who_shows_no_token_is_not_counted_as_one(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(waits_per_token=1, waits_per_address=2, **OPENED)
    gateway.mq.define("open", security="none")

    async def claim(client: str) -> int:
        transport = httpx.ASGITransport(gateway.app, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            return (await http.post("/open/_claim", json={"wait": 0.5})).status_code

    async def all() -> list[int]:
        return list(await asyncio.gather(*map(claim, ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1"))))

    assert gateway.runner.run(all()) == [200, 200, 200, 429]


# --- Who shows no token ---


def test_a_stranger_makes_no_queue(gateway: Gateway) -> None:
    assert gateway.call("POST", "/orders", token=None, message=1).status_code == 401
    assert gateway.mq.queues() == []


def test_without_tokens_nobody_is_asked(make_gateway: MakeGateway, real_server: Any, namespace: str) -> None:
    gateway = make_gateway(settings_for(real_server.url, namespace, auth="none"))
    path = gateway.call("POST", "/orders", token=None, message=1).headers["Location"]
    assert gateway.call("GET", path, token="garbage").status_code == 200
    assert gateway.call("GET", "/_queues", token=None).json() == {"queues": ["orders"]}
    assert gateway.call("PATCH", "/orders/_config", token=None, message={"lease": 5}).json()["lease"] == 5


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "127.0.0.1:8080"}, 200),
        ({"Host": "127.8.9.1"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "mq.localhost."}, 200),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"}, 200),
        ({"Host": "127.0.0.1:8080", "Origin": "https://friend.example"}, 200),
        ({"Host": "evil.example:8080"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "0.0.0.0"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "127.0.0.1:8080", "Origin": "https://evil.example"}, 403),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:3000"}, 403),
        ({"Host": "127.0.0.1:8080", "Origin": "null"}, 403),
    ],
)
def test_without_tokens_pages_of_other_sites_do_nothing(
    make_gateway: MakeGateway, real_server: Any, namespace: str, headers: dict[str, str], status: int
) -> None:
    """Else whatever site somebody looks at on this machine could purge its queues and claim its messages."""
    open = settings_for(real_server.url, namespace, auth="none")
    gateway = make_gateway(open, cors_origins="https://friend.example")
    gateway.mq.queue_message(QUEUE, {"secret": 1})
    for path in (f"/{QUEUE}/_purge", f"/{QUEUE}/_claim", f"/{QUEUE}/_pause"):
        answer = gateway.call("POST", path, token=None, headers=headers)
        assert answer.status_code == status, path
        assert status == 200 or (answer.json()["error"]["code"], "secret" in answer.text) == ("forbidden", False)
    for path in ("/_queues", "/_ui", f"/{QUEUE}"):
        assert gateway.call("GET", path, token=None, headers=headers).status_code == status
    assert gateway.mq.stats(QUEUE).paused is (status == 200)
