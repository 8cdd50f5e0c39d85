"""Requests sent before the answers to earlier ones: very many of them wait, and all are answered, in their order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisq.gateway.server.connection import Connection
from redisq.gateway.server.server import Server, running
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.settings import GatewaySettings
from tests.support.gateways.echo import Tiny
from tests.support.gateways.raw_client import CHUNKED, Client, get, loops, post, run, until

OPTIONS = GatewaySettings(port=0, head_timeout=20, body_idle_timeout=20, keep_alive=0.2)

each_loop = pytest.mark.parametrize("loop", loops())


async def ask(app: Tiny, *requests: bytes, size: int = 10**9) -> list[Any]:
    """Send requests as fast as they are taken, in pieces of a size, and give all answers."""
    data = b"".join(requests)
    async with running(app, OPTIONS) as address:
        client = await Client.to(address)

        async def send() -> None:
            for start in range(0, len(data), size):
                client.send(data[start : start + size])
                await client.writer.drain()

        sending = asyncio.create_task(send())
        answers = await client.answers()
        await sending
        return answers


@each_loop
@pytest.mark.parametrize("size", [10**9, 1000], ids=["at once", "in pieces"])
def test_any_number_is_answered_in_order(size: int, loop: Any) -> None:
    async def main() -> None:
        app, paths = Tiny(), [f"/{number}" for number in range(2000)]
        answers = await ask(app, *map(get, paths), size=size)
        assert [answer.json["path"] for answer in answers] == app.executed == paths

    run(main(), loop)


@each_loop
def test_bodies_among_them_stay_with_their_requests(loop: Any) -> None:
    async def main() -> None:
        app = Tiny()
        chunked = CHUNKED + b"5\r\nhello\r\n" * 2 + b"0\r\n\r\n"
        requests = [post(f"/{number}", b"x" * number * 97) if number % 2 else chunked for number in range(200)]
        answers = await ask(app, *requests)
        assert [answer.json["length"] for answer in answers] == [n * 97 if n % 2 else 10 for n in range(200)]

    run(main(), loop)


def test_one_that_is_refused_is_answered_after_all_before_it_and_none_after_it_runs() -> None:
    async def main() -> None:
        app = Tiny()
        answers = await ask(app, get("/a") * 300, get("/b", "Upgrade: h2c"), get("/c") * 300)
        assert [answer.status for answer in answers] == [200] * 300 + [400]
        assert app.executed == ["/a"] * 300

    run(main())


def test_what_follows_the_last_request_never_runs() -> None:
    async def main() -> None:
        app = Tiny()
        answers = await ask(app, get("/a") * 300, get("/b", "Connection: close"), get("/c") * 300)
        assert [answer.status for answer in answers if answer.status == 200] == [200] * 301
        assert app.executed == ["/a"] * 300 + ["/b"]

    run(main())


@each_loop
def test_a_client_that_sends_on_and_on_is_not_read_from_while_they_wait(loop: Any) -> None:
    async def main() -> None:
        app = Tiny(Stopping())
        server = Server(app, OPTIONS, app.stopping)
        await server.start()
        client = await Client.to(server.address)
        client.send(get("/wait") + get("/a") * 1_000_000)
        left = [0]

        async def is_stuck() -> bool:
            left.append(client.writer.transport.get_write_buffer_size())
            return len(left) > 20 and left[-1] == left[-20] > 0

        await until(is_stuck)
        (connection,) = server._members()
        assert isinstance(connection, Connection)
        assert app.under_way == 1
        assert 16 <= len(connection.pipeline) < 200
        assert len(connection._held) <= 1024 * 1024
        client.close()
        await server.stop()

    run(main(), loop)


def test_who_waits_behind_others_is_not_taken_for_slow() -> None:
    async def main() -> None:
        app = Tiny(Stopping())
        hasty = OPTIONS.model_copy(update={"head_timeout": 0.1, "keep_alive": 0.1})
        async with running(app, hasty, app.stopping) as address:
            client = await Client.to(address)
            client.send(get("/wait") + get("/a") * 400)  # the last piece ends within a head
            await asyncio.sleep(0.5)  # in which it would have been cut
            app.stopping.set()
            assert (await client.answers())[0].json["stopped"]

    run(main())


def test_a_client_may_wait_until_its_body_is_wanted() -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, OPTIONS) as address:
            client = await Client.to(address)
            client.send(post("/expect", b"x").replace(b"\r\n\r\nx", b"\r\nEXPECT: 100-Continue\r\n\r\n"))
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"x")
            answer = await client.answer()
            assert answer is not None
            assert answer.json["length"] == 1
            client.close()

    run(main())
