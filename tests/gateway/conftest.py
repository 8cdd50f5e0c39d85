"""The gateway under test: in this process for most, and run by uvicorn on a loopback port where the wire matters."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette

from redisq import AsyncRedisQ, Credentials, RedisQ, Settings, embedded, store, tokens
from redisq.body import codec
from redisq.errors import InvalidCredentials
from redisq.gateway.access.registry import LiveRegistry
from redisq.gateway.app import create_app
from redisq.gateway.context import Context
from redisq.gateway.settings import GatewaySettings
from redisq.link.sync import Link
from redisq.operations import applications
from redisq.operations.caller import limits_of
from redisq.operations.flow import Flow
from redisq.store.call import new_nonce
from redisq.store.keys import id_text, partition_keys
from redisq.tokens import Grant
from redisq.tokens.applications import Application, MasterKey
from redisq.tokens.scopes import Scopes
from tests.conftest import CREDENTIALS, REAL_SERVERS, settings_for, start

QUEUE = "orders"
#: Settings that open the queue `open` at the name of these tests' gateways, when its own definition does.
OPENED = {"open_queues": "open", "hosts": "gateway"}
MASTER = MasterKey.generate()


class KnownApplications:
    """A verifier that knows a few applications and never changes its mind."""

    def __init__(self, audience: str, *known: Credentials) -> None:
        self.audience = audience
        self.known = {one.kid: one for one in known}

    def verify(self, token: str, now: float) -> Grant:
        return tokens.verify(token, self.known, audience=self.audience, now=now)

    def authenticate(self, app_id: str, secret: str, now: float) -> Application:
        raise InvalidCredentials

    def snapshot(self) -> object:
        return None


@dataclass
class Gateway:
    """A gateway in this process, with its own event loop, and a client of the same Redis beside it."""

    app: Starlette
    context: Context
    runner: asyncio.Runner
    mq: RedisQ
    verifier: KnownApplications

    def token(
        self, ops: Any = tokens.OPS, queues: Any = ("*",), ttl: float = 900, now: float | None = None, **how: Any
    ) -> str:
        how = {"audience": self.context.settings.token_audience, **how}
        credentials = how.pop("credentials", CREDENTIALS)
        return tokens.sign(credentials, ops=ops, queues=queues, ttl=ttl, now=time.time() if now is None else now, **how)

    def call(
        self, method: str, path: str, *, token: str | None = "", client: str = "127.0.0.1", **how: Any
    ) -> httpx.Response:
        """Send a request; with the token given, without one for None, with one for everything otherwise."""
        headers = httpx.Headers(how.pop("headers", None))
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token()}"
        if "message" in how:
            how["content"] = json.dumps(how.pop("message"))
            headers.setdefault("Content-Type", "application/json")
        return self.runner.run(self._call(method, path, client, headers=headers, **how))

    async def _call(self, method: str, path: str, client: str, **how: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(client, 1234))
        base = "http://gateway" if self.context.settings.auth == "token" else "http://localhost"
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            return await http.request(method, path, **how)


MakeGateway = Callable[..., Gateway]


@pytest.fixture
def make_gateway(real_server: embedded.EmbeddedServer, namespace: str) -> Iterator[MakeGateway]:
    """Make gateways on each real server."""
    made: list[Gateway] = []

    def make(settings: Settings | None = None, *, verifier: Any = None, mq: Any = None, **options: Any) -> Gateway:
        settings = settings or settings_for(real_server.url, namespace)
        mq = mq or AsyncRedisQ(settings=settings)
        verifier = verifier or KnownApplications(settings.token_audience, CREDENTIALS)
        context = Context(mq, verifier, settings, GatewaySettings(**{"failures": 10_000, **options}))
        made.append(Gateway(create_app(context), context, asyncio.Runner(), RedisQ(settings=settings), verifier))
        return made[-1]

    yield make
    for gateway in made:
        for farewell in gateway.context.farewells:
            gateway.runner.run(farewell())
        gateway.runner.run(gateway.context.mq.close())
        gateway.runner.close()
        gateway.mq.close()


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway with tokens on."""
    return make_gateway()


class Office:
    """A gateway that follows the real registry of applications, and who writes to it."""

    def __init__(self, make_gateway: MakeGateway, settings: Settings, **options: Any) -> None:
        settings = settings.model_copy(update={"master_key": SecretStr(MASTER.text())})
        mq = AsyncRedisQ(settings=settings)
        self.registry = LiveRegistry(mq, GatewaySettings())
        self.gateway = make_gateway(settings, mq=mq, verifier=self.registry, **options)

    def change(self, flow: Flow[Any]) -> Any:
        """Change the registry, and let the gateway see it."""
        done = self.gateway.mq._run(flow)
        self.gateway.runner.run(self.registry.refresh())
        return done

    def create(self, name: str, *allow: str) -> Credentials:
        flow = applications.create(self.gateway.context.settings, name, Scopes.parse(allow))
        return cast(Credentials, self.change(flow).credentials)


@pytest.fixture
def office(make_gateway: MakeGateway, real_server: embedded.EmbeddedServer, namespace: str) -> Office:
    """A gateway with a registry of applications."""
    return Office(make_gateway, settings_for(real_server.url, namespace))


@pytest.fixture
def start_server() -> Iterator[Callable[[], embedded.EmbeddedServer]]:
    """Start servers that a test may end."""
    started: list[embedded.EmbeddedServer] = []

    def begin() -> embedded.EmbeddedServer:
        started.append(start(REAL_SERVERS[0]))
        return started[-1]

    yield begin
    for server in started:
        server.close()


class Served:
    """A gateway that uvicorn serves, in a thread, on a port of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(gateway.app, log_config=None, access_log=False, lifespan="on", ws="none")
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        with socket.create_connection(("127.0.0.1", self.port)) as probe:  # answered when it has started
            probe.sendall(b"OPTIONS /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert probe.recv(100).startswith(b"HTTP/1.1 204")

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it runs in."""
        return self.server.servers[0].get_loop()

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture
def served(gateway: Gateway) -> Iterator[Served]:
    """A gateway on a port."""
    served = Served(gateway)
    yield served
    served.close()


@pytest.fixture
def finish(gateway: Gateway) -> Callable[[str], None]:
    """Complete the only message that waits."""

    def complete(id: str) -> None:
        settings = gateway.context.settings
        keys, limits = partition_keys(settings.namespace, QUEUE), limits_of(settings)
        link = Link(settings)
        try:
            (delivery,) = link.call(store.deliveries.claim(keys, limits, "w", new_nonce(), 1)).deliveries
            assert id_text(delivery.receipt.id) == id
            assert link.call(store.deliveries.complete(keys, limits, [(delivery.receipt, codec.encode("done"))])) == [
                None
            ]
        finally:
            link.close()

    return complete
