"""White space around a header's value is no part of it (RFC 9110, 5.5), whichever header it is: over a real socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from redisq import tokens
from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings
from tests.conftest import settings_for
from tests.gateway.conftest import MASTER
from tests.support.gateways.echo import Tiny
from tests.support.gateways.in_process import LiveGateway
from tests.support.gateways.raw_client import Answer, Client, get, once, run

WHITE = [" ", "\t", " \t "]


@pytest.fixture
def gateway(real_server: Any, namespace: str) -> Iterator[LiveGateway]:
    """A whole gateway below a path, at which the queue `open` is open."""
    settings = settings_for(real_server.url, namespace, master_key=MASTER.text())
    gateway = LiveGateway(settings, open_queues="open", root_path="/mq")
    gateway.office.define("open", security="none")
    yield gateway
    gateway.close()


def token_of(gateway: LiveGateway) -> str:
    alice = gateway.enrol("alice", "kid-a", MASTER, "stats:*")
    audience = gateway.settings.token_audience
    return tokens.sign(alice, ops=["stats"], queues=["*"], ttl=900, now=time.time(), audience=audience)


@pytest.mark.parametrize("white", WHITE)
def test_behind_a_token(gateway: LiveGateway, white: str) -> None:
    token = token_of(gateway)
    assert gateway.get("/open", token + white).status == 200
    assert gateway.get("/open", token + white + "x").status == 401  # within the value it counts


@pytest.mark.parametrize("white", WHITE)
def test_behind_what_tells_where_a_request_comes_from(gateway: LiveGateway, white: str) -> None:
    def ask(host: str, *headers: str) -> int:
        return run(once(gateway.url, get("/open/05749898-74a0-47e1-b10d-5acf29d040c4", *headers, host=host))).status

    assert ask("localhost" + white) == 404  # there is no such message; else it were 403
    assert ask("localhost", f"Sec-Fetch-Site: same-origin{white}") == 404
    assert ask("localhost", f"X-Forwarded-Host: localhost{white}") == 404
    assert ask("elsewhere" + white) == 403


@pytest.mark.parametrize("white", WHITE)
def test_behind_a_requests_id_and_what_a_proxy_took_away(gateway: LiveGateway, white: str) -> None:
    answer = gateway.get("/open", token_of(gateway), f"X-Request-Id: mine{white}".encode())
    assert answer.headers["x-request-id"] == "mine"
    gateway.queue("mq", 1)
    kept = gateway.get("/mq", token_of(gateway), f"X-Forwarded-Prefix: /mq{white}".encode())
    assert kept.json()["queue"] == "mq"


@pytest.mark.parametrize("white", WHITE)
def test_behind_any_value(white: str) -> None:
    """Also of what the server itself reads."""
    options = GatewaySettings(port=0, trusted_proxies="127.0.0.1")
    sent = {"x-forwarded-proto": "https", "origin": "https://a.example", "host": "gateway", "x-any": "a \t b", "x": ""}

    async def main() -> Answer:
        async with running(Tiny(), options) as address:
            lines = [f"{name}:{white}{value}{white}" for name, value in sent.items() if name != "host"]
            return await once(address, get("/a", *lines, host=sent["host"] + white))

    told = run(main()).json
    assert told["scheme"] == "https"
    assert {name: told[name] for name in sent} == sent


@pytest.mark.parametrize("white", ["", *WHITE])
def test_behind_what_is_expected(white: str) -> None:
    async def main() -> bytes:
        async with running(Tiny(), GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            head = f"POST /a HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1\r\nExpect: 100-continue{white}\r\n\r\n"
            client.send(head.encode())
            line = await client.reader.readline()
            client.close()
            return line

    assert run(main()) == b"HTTP/1.1 100 Continue\r\n"
