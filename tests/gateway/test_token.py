"""`/_token`: what RFC 6749 says, with a real registry of applications; and what an OAuth library makes of it."""

from __future__ import annotations

import base64
import json
import time
import warnings
from typing import Any
from urllib.parse import quote

import pytest

from redisq import Credentials, tokens
from redisq.operations import applications
from redisq.tokens.scopes import Scopes
from tests.gateway.conftest import Office, Served

ALLOWED = ("queue,get:orders", "work:reports.*")


@pytest.fixture
def billing(office: Office) -> Credentials:
    return office.create("billing", *ALLOWED)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(office: Office, client: Credentials | None, *, post: bool = False, **form: Any) -> Any:
    form = {"grant_type": "client_credentials", **form}
    headers = {}
    if client and post:
        form = {"client_id": client.app, "client_secret": client.secret(), **form}
    elif client:
        headers = basic(quote(client.app, safe=""), quote(client.secret(), safe=""))
    return office.gateway.call("POST", "/_token", token=None, data=form, headers=headers)


def refused(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["error"]) == (status, code)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("post", [False, True], ids=["basic", "post"])
def test_a_token_for_all_that_is_allowed(office: Office, billing: Credentials, post: bool) -> None:
    answer = ask(office, billing, post=post)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json()
    assert told.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 900)
    assert Scopes.parse(told["scope"].split()) == Scopes.parse(ALLOWED)
    grant = office.registry.verify(told["access_token"], time.time())
    assert (grant.app, grant.effective()) == ("billing", Scopes.parse(ALLOWED))
    made = office.gateway.call("POST", "/orders", message=1, token=told["access_token"])
    assert made.status_code == 201
    assert office.gateway.call("GET", made.headers["Location"], token=told["access_token"]).status_code == 200
    assert office.gateway.call("DELETE", made.headers["Location"], token=told["access_token"]).status_code == 403


@pytest.mark.parametrize(
    "scope",
    ["get:orders", "queue:orders get:orders", "queue:orders work:reports.a", "work:reports.*", "queue,get:orders"],
)
def test_a_token_allows_just_what_was_asked_for(office: Office, billing: Credentials, scope: str) -> None:
    told = ask(office, billing, scope=scope).json()
    wanted = Scopes.parse(scope.split())
    assert Scopes.parse(told["scope"].split()) == wanted
    assert office.registry.verify(told["access_token"], time.time()).effective() == wanted


@pytest.mark.parametrize(
    "scope", ["get:*", "delete:orders", "get:orders admin:orders", "orders", "get:", "x:orders", "a  b"]
)
def test_more_than_is_allowed_is_refused(office: Office, billing: Credentials, scope: str) -> None:
    refused(ask(office, billing, scope=scope), 400, "invalid_scope")


def test_many_scopes_need_room(office: Office) -> None:
    scopes = [f"{op}:queue-number-{n}" for n in range(60) for op in (["get"] if n % 2 else ["queue"])]
    client = office.create("wide", *scopes)
    refused(ask(office, client, scope=" ".join(scopes)), 400, "invalid_scope")
    told = ask(office, client).json()
    grant = office.registry.verify(told["access_token"], time.time())
    assert grant.effective() == Scopes.parse(scopes)


def test_who_is_not_known_is_refused_alike(office: Office, billing: Credentials) -> None:
    other = office.create("other", "get:*")
    office.change(applications.switch(office.gateway.context.settings, "other", disabled=True))
    strangers = [
        Credentials.generate("billing"),
        Credentials.generate("nobody"),
        Credentials("billing", other.kid, other.key),
        other,
    ]
    answers = [ask(office, stranger, post=post) for stranger in strangers for post in (False, True)]
    for answer in answers:
        refused(answer, 401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert answer.json() == answers[0].json()


def test_a_rotated_application_has_two_good_secrets(office: Office, billing: Credentials) -> None:
    new = office.change(applications.rotate(office.gateway.context.settings, "billing", 60)).credentials
    for client in (billing, new):
        assert ask(office, client).status_code == 200
    office.change(applications.rotate(office.gateway.context.settings, "billing", 0))
    for client in (billing, new):
        refused(ask(office, client), 401, "invalid_client")


def send(office: Office, content: str, headers: Any = None, path: str = "/_token") -> Any:
    headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
    return office.gateway.call("POST", path, token=None, content=content, headers=headers)


def test_requests_that_are_malformed(office: Office, billing: Credentials) -> None:
    known, kind = basic(billing.app, billing.secret()), "grant_type=client_credentials"
    both = f"{kind}&client_id=billing&client_secret={billing.secret()}"
    for content, headers in (
        ("", known),
        ("grant_type=", known),
        ("scope=get:orders", known),
        (f"{kind}&{kind}", known),
        (f"{kind}&scope=get:orders&scope=get:orders", known),
        (f"{kind}&client_id=other", known),
        (both, known),
        (kind, {**known, "Content-Type": "application/json"}),
        ("x" * 20_000, known),
        ("&".join(f"a{n}=1" for n in range(100)), known),
        (f"{kind}&x=%ff", known),
    ):
        refused(send(office, content, headers), 400, "invalid_request")
    refused(send(office, kind, path="/_token?client_id=billing"), 400, "invalid_request")
    refused(send(office, "grant_type=password", known), 400, "unsupported_grant_type")
    assert send(office, f"{kind}&client_id=billing&scope=&resource=x", known).status_code == 200
    for spelled in (
        f"{kind}&",
        f"&{kind}",
        f"{kind}&&client_id=billing&",
        f"{kind}&scope",
        f"{kind}&scope=&x=%zz",
        f"{kind}&=",
    ):
        assert send(office, spelled, known).status_code == 200, spelled
    both_spaces = {"Authorization": known["Authorization"].replace("Basic ", "BASIC   ")}
    assert send(office, kind, both_spaces).status_code == 200
    for form in ("application/x-www-form-urlencoded;", "Application/X-WWW-Form-Urlencoded; charset=utf8"):
        assert send(office, kind, {**known, "Content-Type": form}).status_code == 200
    assert office.gateway.call("GET", "/_token", token=None).status_code == 405


@pytest.mark.parametrize("value", ["", "Basic", "Basic !", "Basic YQ==", "Basic /w==", "Bearer x", "basic 8J+Yg"])
def test_credentials_that_cannot_be_read(office: Office, value: str) -> None:
    refused(send(office, "grant_type=client_credentials", {"Authorization": value}), 401, "invalid_client")


def test_secrets_come_percent_encoded(office: Office, billing: Credentials) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in billing.secret().encode())
    known = basic("%62illing", encoded)
    assert send(office, "grant_type=client_credentials", known).status_code == 200


def test_no_secret_comes_back(office: Office, billing: Credentials, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="redisq"):
        answers = [
            ask(office, billing, post=post, scope=scope) for post in (True, False) for scope in ("get:orders", "x")
        ]
    told = caplog.text + "".join(answer.text for answer in answers)
    assert billing.secret() not in told
    assert "/_token 200" in caplog.text
    for answer in answers[::2]:
        assert answer.json()["access_token"] not in caplog.text


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_and_uses_a_token_unaided(office: Office, billing: Credentials, method: str) -> None:
    with warnings.catch_warnings(record=True):  # Authlib's own, of its next version
        from authlib.integrations.httpx_client import OAuth2Client

    served = Served(office.gateway)
    try:
        endpoint = f"{served.url}/_token"
        with OAuth2Client(
            billing.app, billing.secret(), token_endpoint_auth_method=method, scope="queue:orders get:orders"
        ) as http:
            token = http.fetch_token(endpoint, grant_type="client_credentials")
            assert token["scope"].split() == ["get:orders", "queue:orders"]
            made = http.post(f"{served.url}/orders", json={"sku": "A-1"})
            assert made.status_code == 201
            assert http.get(served.url + made.headers["Location"]).json()["request"] == {"sku": "A-1"}
    finally:
        served.close()


def test_a_token_signed_offline_does_the_same(office: Office, billing: Credentials) -> None:
    audience = office.gateway.context.settings.token_audience
    token = tokens.sign(billing, audience=audience, ops=tokens.OPS, queues=["*"], now=time.time())
    assert office.gateway.call("POST", "/orders", message=1, token=token).status_code == 201
    assert office.gateway.call("GET", "/orders", token=token).status_code == 403  # the allowance bounds it
    assert (
        json.loads(office.gateway.call("POST", "/other", message=1, token=token).text)["error"]["code"] == "forbidden"
    )
