"""A whole gateway in this process: its own server on a loopback port, the registry of applications, and its office."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from dataclasses import dataclass
from typing import Any, cast

from redisq import AsyncRedisQ, Credentials, RedisQ, Settings
from redisq.gateway.access.registry import LiveRegistry
from redisq.gateway.app import create_app
from redisq.gateway.context import Context
from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings
from redisq.operations import applications
from redisq.operations.flow import Flow
from redisq.tokens.applications import MasterKey
from redisq.tokens.scopes import Scopes

PATIENCE = 60.0


@dataclass
class Answer:
    """What came back: status, headers by their names in small letters, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The error's code, empty when it is none."""
        return str(self.json().get("error", {}).get("code", "")) if self.body else ""

    def json(self) -> Any:
        return json.loads(self.body)

    def shape(self) -> Any:
        """All of it but what names the request or the moment."""
        body = self.json()
        body["error"].pop("request_id")
        return self.status, body, {name: v for name, v in self.headers.items() if name not in ("x-request-id", "date")}


class Sender:
    """Sends requests whose headers are any bytes at all, on one connection for as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def send(self, method: str, path: str, headers: list[bytes], body: bytes = b"") -> Answer:
        """Send a request and give its answer."""
        length = [f"Content-Length: {len(body)}".encode()] if body else []
        head = [f"{method} {path} HTTP/1.1".encode(), b"Host: gateway", *headers, *length]
        whole = b"\r\n".join(head) + b"\r\n\r\n" + body
        kept = self._socket is not None
        try:
            return self._try(method, whole)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:  # else the connection may have been closed meanwhile
                raise
            return self._try(method, whole)

    def _try(self, method: str, whole: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
        try:
            self._socket.sendall(whole)
            answer = http.client.HTTPResponse(self._socket, method=method)
            answer.begin()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            found = Answer(answer.status, headers, answer.read())
        except BaseException:
            self.close()
            raise
        if answer.will_close:
            self.close()
        answer.close()
        return found

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class LiveGateway:
    """A gateway that follows the registry, served in a thread; and who writes to that registry."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.options = GatewaySettings(port=0, **{"registry_poll": 0.02, "failures": 1_000_000, **options})
        self.office = RedisQ(settings=settings)
        self.registry: LiveRegistry
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        self.port = int(self.url.rpartition(":")[2])
        self.sender = Sender(self.port)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        mq = AsyncRedisQ(settings=self.settings)
        self.registry = LiveRegistry(mq, self.options)
        self.context = Context(mq, self.registry, self.settings, self.options)
        async with running(create_app(self.context), self.options, self.context.stopping) as self.url:
            self._ready.set()
            await self._end.wait()

    def close(self) -> None:
        self.sender.close()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        self.office.close()

    def change(self, flow: Flow[Any]) -> Any:
        """Change the registry, and let the gateway see it."""
        done = self.office._run(flow)
        asyncio.run_coroutine_threadsafe(self.registry.refresh(), self._loop).result(PATIENCE)
        return done

    def enrol(self, name: str, kid: str, master: MasterKey, *allow: str) -> Credentials:
        """Register an application whose key has an id that is known beforehand."""
        self.change(applications.enrol(self.settings, name, kid, Scopes.parse(allow)))
        return master.credentials(name, kid)

    def get(self, path: str, token: str | bytes | None, *more: bytes) -> Answer:
        """Look something up with a token."""
        return self.sender.send("GET", path, [*bearer(token), *more])

    def post(self, path: str, token: str, body: Any) -> Answer:
        content = json.dumps(body).encode()
        return self.sender.send("POST", path, [*bearer(token), b"Content-Type: application/json"], content)

    def ask(self, method: str, path: str, token: str, body: Any = None) -> Answer:
        """Send a request on a connection of its own, from any thread."""
        sender = Sender(self.port)
        try:
            content = b"" if body is None else json.dumps(body).encode()
            return sender.send(method, path, [*bearer(token), b"Content-Type: application/json"], content)
        finally:
            sender.close()

    def queue(self, queue: str, message: Any) -> str:
        """Put a message into a queue by the back door."""
        return cast(str, self.office.queue_message(queue, message))


def bearer(token: str | bytes | None) -> list[bytes]:
    """Write the header that brings a token."""
    if token is None:
        return []
    return [b"Authorization: Bearer " + (token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass"))]
