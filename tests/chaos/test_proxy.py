"""Doors: what each fault does to what passes."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.chaos.proxy import Door


class Echo:
    """A server that answers each line with itself, and remembers it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.heard = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                self.lines.append(line)
                self.heard.set()
                writer.write(line)
                await writer.drain()
        writer.close()


class Visitor:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: bytes) -> bytes:
        """Send a line, and give the answer; what there is of it when the connection ends."""
        self.writer.write(line)
        return await self.reader.readline()


Visit = Callable[[], Awaitable[Visitor]]


@asynccontextmanager
async def door_to_an_echo() -> AsyncIterator[tuple[Door, Echo, Visit]]:
    echo, visitors = Echo(), list[Visitor]()
    with tempfile.TemporaryDirectory(prefix="rq") as folder:
        server = await asyncio.start_unix_server(echo.serve, f"{folder}/s")
        async with Door(f"{folder}/s") as door:

            async def visit() -> Visitor:
                address = urlsplit(door.url)
                visitors.append(Visitor(*await asyncio.open_connection(address.hostname, address.port)))
                return visitors[-1]

            try:
                yield door, echo, visit
            finally:
                for visitor in visitors:
                    visitor.writer.close()
                server.close()


def on_a_door(test: Callable[[Door, Echo, Visit], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test with a door, an echo behind it and a way to visit."""

    def run() -> None:
        async def body() -> None:
            async with asyncio.timeout(30), door_to_an_echo() as (door, echo, visit):
                await test(door, echo, visit)

        asyncio.run(body())

    return run


@on_a_door
async def test_everything_passes(door: Door, echo: Echo, visit: Visit) -> None:
    visitor = await visit()
    for line in (b"one\n", b"two\n", b"x" * 60_000 + b"\n"):
        assert await visitor.ask(line) == line


@on_a_door
async def test_byte_by_byte_it_is_the_same(door: Door, echo: Echo, visit: Visit) -> None:
    door.split = True
    visitor = await visit()
    for line in (b"one\n", b"x" * 300 + b"\n"):
        assert await visitor.ask(line) == line


@on_a_door
async def test_a_delay_changes_nothing(door: Door, echo: Echo, visit: Visit) -> None:
    door.delay = 0.01
    assert await (await visit()).ask(b"one\n") == b"one\n"


@on_a_door
async def test_each_nth_reply_is_dropped_though_the_server_served_it(door: Door, echo: Echo, visit: Visit) -> None:
    door.drop_every = 2
    visitor = await visit()
    assert await visitor.ask(b"one\n") == b"one\n"
    assert await visitor.ask(b"two\n") == b""
    assert echo.lines == [b"one\n", b"two\n"]
    door.heal()
    assert await (await visit()).ask(b"three\n") == b"three\n"


@on_a_door
async def test_each_nth_reply_ends_in_its_middle(door: Door, echo: Echo, visit: Visit) -> None:
    door.cut_every = 1
    assert await (await visit()).ask(b"1234567\n") == b"1234"


@on_a_door
async def test_a_reset_is_one(door: Door, echo: Echo, visit: Visit) -> None:
    visitor = await visit()
    assert await visitor.ask(b"one\n") == b"one\n"
    door.reset()
    with pytest.raises(ConnectionResetError):
        await visitor.ask(b"two\n")
    assert await (await visit()).ask(b"three\n") == b"three\n"


@on_a_door
async def test_what_falls_into_a_hole_never_comes_out(door: Door, echo: Echo, visit: Visit) -> None:
    before = await visit()
    assert await before.ask(b"one\n") == b"one\n"
    door.hole = True
    within = await visit()
    for visitor in (before, within):
        visitor.writer.write(b"swallowed\n")
    await asyncio.sleep(0.05)  # for the door to take it
    door.hole = False
    for visitor in (before, within):
        visitor.writer.write(b"swallowed, too\n")
    assert await (await visit()).ask(b"two\n") == b"two\n"
    assert echo.lines == [b"one\n", b"two\n"]


@on_a_door
async def test_what_was_frozen_arrives_late_even_when_its_sender_has_gone(door: Door, echo: Echo, visit: Visit) -> None:
    visitor = await visit()
    assert await visitor.ask(b"one\n") == b"one\n"
    door.freeze()
    visitor.writer.write(b"late\n")
    await visitor.writer.drain()
    visitor.writer.close()
    assert await (await visit()).ask(b"two\n") == b"two\n"  # a newer connection is not held up
    assert echo.lines == [b"one\n", b"two\n"]
    echo.heard.clear()
    door.heal()
    await echo.heard.wait()
    assert echo.lines == [b"one\n", b"two\n", b"late\n"]


@on_a_door
async def test_without_a_server_the_connection_ends(door: Door, echo: Echo, visit: Visit) -> None:
    door._target = "/nonexistent/s"
    with contextlib.suppress(ConnectionResetError):
        assert await (await visit()).ask(b"one\n") == b""
