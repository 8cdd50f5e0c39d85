"""A connection goes every way of its table of states, and no other, whatever its client, its application or time do."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from redisq.gateway.server import connection as module
from redisq.gateway.server.connection import Connection
from redisq.gateway.server.connections import Connections
from redisq.gateway.server.refusals import Refused
from redisq.gateway.server.server import Server
from redisq.gateway.server.states import TRANSITIONS, State
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.settings import GatewaySettings
from tests.support.gateways.raw_client import get, post, run
from tests.unit.test_states import Recorder, ways

OPTIONS = GatewaySettings(port=0)
GET, LAST, POST = get("/"), get("/", "Connection: close"), post("/", b"x" * 50)
PIECES = (GET, GET[:20], GET[20:], POST, POST[:-9], b"x" * 9, b"\0\n\n", LAST + GET)


class Wire(asyncio.Transport):
    """A transport that sends all at once to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Any = None
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write_eof(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def lose(self, error: Exception | None) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, error)

    def close(self) -> None:
        self.lose(None)

    abort = close


class Walk:
    """One connection, by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        config = Server(self, OPTIONS, Stopping())._config()
        self.wire = Wire()
        self.connection = self.wire.connection = Connection(config, Connections(OPTIONS), {})
        self.connection.connection_made(self.wire)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read, or not; answer at once, after a while, by halves, or never."""
        if self.random.random() < 0.5:
            await receive()
        if self.random.random() < 0.2:
            await asyncio.Event().wait()
        for _ in range(self.random.choice([0, 0, 20])):
            await asyncio.sleep(0)
        headers = [(b"connection", b"close")] if self.random.random() < 0.2 else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.random.random() < 0.3:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.Event().wait()
        await send({"type": "http.response.body", "body": b"x"})

    def step(self) -> None:
        """Let something happen."""
        connection, what = self.connection, self.random.random()
        if what < 0.75:
            if not self.wire.is_closing():
                connection.data_received(self.random.choice(PIECES) * self.random.choice([1, 1, 1, 30]))
        elif what < 0.9:
            connection.look(connection.loop.time() + self.random.choice([0, 1, 10_000]))
        elif what < 0.93:
            connection.shutdown()
        elif what < 0.96:
            connection.cut(Refused(503, "the server is being stopped"))
        else:
            self.wire.lose(self.random.choice([None, ConnectionResetError()]))

    async def go(self) -> None:
        while not self.wire.is_closing():
            self.step()
            for _ in range(self.random.randrange(6)):
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in self.connection.tasks:
            task.cancel()
        while self.connection.tasks:
            await asyncio.sleep(0)


def test_a_connection_goes_every_way_of_its_table_and_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(module, "follow", recorder.follow)

    async def main() -> None:
        for seed in range(1000):
            walk = Walk(seed)
            await walk.go()
            assert walk.connection._state is State.CLOSED

    run(main())
    assert recorder.gone == ways(TRANSITIONS)
