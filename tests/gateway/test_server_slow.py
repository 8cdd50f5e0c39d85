"""Clients that are slow on any side are cut at their limits, and others do not notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle, islice
from typing import Any

import pytest

from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings
from tests.support.gateways.echo import Tiny
from tests.support.gateways.raw_client import CHUNKED, Client, Process, get, loops, once, process, run, until

each_loop = pytest.mark.parametrize("loop", loops())

SHORT: dict[str, Any] = {
    "head_timeout": 0.4,
    "body_idle_timeout": 0.4,
    "body_timeout": 0.6,
    "write_timeout": 0.4,
    "keep_alive": 0.4,
    "slowest_rate": 1e9,  # no time beyond the limits
    "request_timeout": 30,
}
# A machine that stands still for that long may cut anybody, before the first byte even; so nobody here insists on an
# answer, but in tests that have heard from the server before.
DRIP = 0.05  # seconds between two bytes, so that no pause is long
BODY = b"POST /body HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n"


async def drip(client: Client, data: bytes) -> None:
    """Send byte by byte, again and again, until the server has had enough."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_drip(client, data))
        await client.closed()
        sending.cancel()


async def _drip(client: Client, data: bytes) -> None:
    for byte in cycle(data):
        client.send(bytes([byte]))
        await asyncio.sleep(DRIP)


async def silent(client: Client) -> None:
    assert await client.closed() == b""


async def half_a_head(client: Client) -> None:
    client.send(get("/half")[:-2])
    await client.closed()


async def dripping_head(client: Client) -> None:
    await drip(client, b"GET /drip HTTP/1.1\r\nHost: gateway\r\n" + b"X-Field: value\r\n" * 1000)


async def empty_lines(client: Client) -> None:
    await drip(client, b"\r\n")


async def half_a_body(client: Client) -> None:
    client.send(BODY + b"half")
    await client.closed()


async def dripping_body(client: Client) -> None:
    client.send(BODY)
    await drip(client, b"x")


async def dripping_chunks(client: Client) -> None:
    client.send(CHUNKED)
    await drip(client, b"1\r\nx\r\n")


async def idle_after_an_answer(client: Client) -> None:
    client.send(get("/idle"))
    await client.closed()


async def half_a_second_head(client: Client) -> None:
    client.send(get("/whole") + get("/half")[:-2])
    await client.closed()


async def not_reading(client: Client) -> None:
    client.send(get("/big"))
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(1)  # what the server sent meanwhile stays in the kernel
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert not (await client.closed()).endswith(b"0\r\n\r\n")


async def not_reading_many(client: Client) -> None:
    """Small answers, which are whole for the application, and are never read."""
    client.send(get("/small") * 10)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(1)
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await client.closed()


KINDS: list[Callable[[Client], Awaitable[None]]] = [
    silent,
    half_a_head,
    dripping_head,
    empty_lines,
    half_a_body,
    dripping_body,
    dripping_chunks,
    idle_after_an_answer,
    half_a_second_head,
    not_reading,
    not_reading_many,
]


@pytest.fixture
def server() -> Iterator[Process]:
    with process(**SHORT, connections_per_address=4096) as one:
        yield one


@pytest.mark.full(keep=6)
@each_loop
@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_client_is_cut(kind: Callable[[Client], Awaitable[None]], loop: Any) -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0, **SHORT)) as address:
            before = len(asyncio.all_tasks())
            client = await Client.to(address, limit=1024)
            await kind(client)
            await until(lambda: nothing_left(app, before))

    run(main(), loop)


async def nothing_left(app: Tiny, tasks: int) -> bool:
    return app.under_way == 0 and len(asyncio.all_tasks()) <= tasks + 1


@each_loop
@pytest.mark.parametrize(
    "half", [get("/half")[:-2], BODY + b"half", CHUNKED + b"5\r\nhel"], ids=["head", "body", "chunk"]
)
def test_who_began_and_does_not_go_on_is_told(half: bytes, loop: Any) -> None:
    async def main() -> None:
        options = GatewaySettings(port=0, **{**SHORT, "keep_alive": 3600})
        async with running(Tiny(), options) as address:
            client, answer = await Client.to(address), None
            while answer is None:  # it may have been too slow
                client.close()
                client = await Client.to(address)
                client.send(get("/first"))
                answer = await client.answer()
            client.send(half)
            assert [answer.status for answer in await client.answers()] == [408]

    run(main(), loop)


def test_healthy_requests_go_on_among_many_slow_clients(
    server: Process, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    count = scaled(1000, 110)
    took: list[float] = []

    async def slow(kind: Callable[[Client], Awaitable[None]]) -> None:
        await kind(await Client.to(server.address, limit=1024))

    async def healthy(until_done: asyncio.Event) -> None:
        client = await Client.to(server.address)
        while not until_done.is_set():
            began = time.perf_counter()
            client.send(get("/healthy"))
            if answer := await client.answer():
                assert answer.status == 200
                took.append(time.perf_counter() - began)
            else:  # this very process stood still between two requests
                client.close()
                client = await Client.to(server.address)
            await asyncio.sleep(0.01)
        client.close()

    async def main() -> None:
        files = server.files()
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            well = [group.create_task(healthy(done)) for _ in range(4)]
            await asyncio.gather(*(slow(kind) for kind in islice(cycle(KINDS), count)))
            done.set()
            await asyncio.gather(*well)
        await until(lambda: only(files))
        assert (await once(server.address, get("/seen"))).json["under_way"] == 0

    async def only(files: int) -> bool:
        return server.files() <= files

    run(main())
    took.sort()
    figure(
        f"{len(took):,} requests among {count:,} slow clients: p50 {took[len(took) // 2] * 1000:.1f} ms, "
        f"p99 {took[len(took) * 99 // 100] * 1000:.1f} ms, max {took[-1] * 1000:.1f} ms"
    )


# --- Too much ---


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("kind", ["chunked", "length"])
def test_a_body_beyond_the_limit_costs_no_memory(
    kind: str, scaled: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """Also when the client never stops sending, and reads nothing until it has to."""
    size = scaled(1024, 64)  # MiB
    piece = b"x" * 65_536

    async def send(client: Client) -> int:
        sent = 0
        if kind == "chunked":
            client.send(CHUNKED)
        else:
            client.send(b"POST /length HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n" % (size * 1024 * 1024))
        try:
            while sent < size * 16:
                client.send(b"10000\r\n" + piece + b"\r\n" if kind == "chunked" else piece)
                await client.writer.drain()
                sent += 1
            client.send(b"0\r\n\r\n" if kind == "chunked" else b"")
        except ConnectionError:
            pass
        return sent

    async def main(server: Process) -> None:
        assert (await once(server.address, get("/warm"))).status == 200
        before, _ = server.memory()
        client = await Client.to(server.address)
        sending = asyncio.create_task(send(client))
        answer = await client.answer()
        assert answer is not None
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        sent = await sending
        client.close()
        after, most = server.memory()
        figure(
            f"{kind} body of {size} MiB at a limit of 1 MiB: 413, cut after {sent // 16} MiB; the server had "
            f"{before:.1f} MiB before, {after:.1f} after, {most:.1f} at most"
        )
        assert most - before <= 16
        assert (await once(server.address, get("/seen"))).json["executed"] == ["/warm"]

    with process() as server:
        run(main(server))


@each_loop
def test_an_answer_before_the_body_is_the_last_one(loop: Any) -> None:
    """What the client goes on sending is not taken for a request, and not read for ever."""

    async def main() -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            client.send(b"POST /deaf HTTP/1.1\r\nHost: gateway\r\nContent-Length: 60000\r\n\r\n" + get("/second"))
            (answer,) = await client.answers()
            assert answer.status == 401
            assert answer.headers["connection"] == "close"
        assert app.executed == []

    run(main(), loop)


@pytest.mark.parametrize(("path", "status"), [("/body", 200), ("/deaf", 401)])
def test_a_client_that_asks_first_sends_no_body_in_vain(path: str, status: int) -> None:
    async def main() -> None:
        async with running(Tiny(), GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            answer = await client.ask(head.encode())
            if status == 200:
                assert answer.status == 100
                answer = await client.ask(b"hello")
            assert answer.status == status
            client.close()

    run(main())


@each_loop
def test_a_body_that_nobody_takes_is_not_read(loop: Any) -> None:
    """Up to a limit of time for the application, which then sees its client gone."""

    async def main() -> None:
        gone = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    gone.set()
                    raise

        async with running(app, GatewaySettings(port=0, request_timeout=0.4)) as address:
            client = await Client.to(address)
            client.send(CHUNKED + b"100000\r\n" + b"x" * 1_048_576 + b"\r\n" + b"100000\r\n" + b"x" * 1_048_576)
            answer = await client.answer()
            assert answer is not None
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            await gone.wait()
            client.close()

    run(main(), loop)


@each_loop
def test_an_answer_that_takes_too_long_is_cut(loop: Any) -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0, request_timeout=0.3)) as address:
            client = await Client.to(address)
            client.send(get("/hang") + get("/second"))
            assert [answer.status for answer in await client.answers()] == [503]
            await app.cancelled.wait()
        assert app.executed == ["/hang"]

    run(main(), loop)


@pytest.mark.parametrize(
    "head",
    [
        get("/a", "X: " + "x" * 20_000),
        get("/" + "a" * 20_000),
        get("/a", *(f"X-{n}: {n}" for n in range(200))),
        b"GET /" + b"a" * 20_000,
        b"GET /a HTTP/1.1\r\nHost: gateway\r\nX: " + b"x" * 1_000_000,
        b"\r\n" * 20_000,
    ],
    ids=["field", "target", "fields", "target without an end", "field without an end", "empty lines"],
)
def test_a_head_beyond_the_limit_is_refused(head: bytes) -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            client.send(head)
            assert [answer.status for answer in await client.answers()] == [431]
        assert app.executed == []

    run(main())


def test_any_number_of_requests_wait_behind_one_another() -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            client.send(b"".join(get(f"/{n}") for n in range(100)))
            statuses = [(await client.ask(b"")).status for _ in range(100)]
            client.close()
        assert statuses == [200] * 100
        assert app.executed == [f"/{n}" for n in range(100)]

    run(main())


def test_beyond_so_many_connections_one_is_turned_away() -> None:
    async def main(options: dict[str, int]) -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0, **options)) as address:
            clients = [await Client.to(address) for _ in range(3)]
            for client in clients:
                assert (await client.ask(get("/in"))).status == 200
            turned_away = await Client.to(address)
            assert [answer.status for answer in await turned_away.answers()] == [503]
            clients.pop().close()
            await until(lambda: let_in(address))
            for client in clients:
                client.close()

    run(main({"connections": 3}))
    run(main({"connections_per_address": 3}))


async def let_in(address: str) -> bool:
    client = await Client.to(address)
    client.send(get("/in"))
    answer = await client.answer()
    client.close()
    return answer is not None and answer.status == 200


def test_who_is_behind_a_trusted_proxy_has_a_limit_of_his_own() -> None:
    """Slow bodies of one client, each on a connection of the proxy's, keep nobody else out."""

    def slow(client: str) -> bytes:
        return (
            b"POST /slow HTTP/1.1\r\nHost: gateway\r\nContent-Length: 9\r\nX-Forwarded-For: %b\r\n\r\n"
            % client.encode()
        )

    async def main() -> None:
        app, options = Tiny(), GatewaySettings(port=0, connections_per_address=3, trusted_proxies="127.0.0.0/8")

        async def under_way(count: int) -> bool:
            return app.under_way == count

        async with running(app, options) as address:
            clients = [await Client.to(address) for _ in range(3)]
            for number, client in enumerate(clients):
                client.send(slow(f"2001:db8::{number}"))  # one customer's network
            await until(lambda: under_way(3))
            assert (await once(address, slow("2001:db8::9"))).status == 503
            assert (await once(address, get("/in", "X-Forwarded-For: 192.0.2.7"))).status == 200
            assert (await once(address, get("/in"))).status == 200
            assert (await clients[0].ask(b"x" * 9)).status == 200
            assert (await clients[0].ask(get("/in", "X-Forwarded-For: 192.0.2.7"))).status == 200  # it serves many
            assert (await once(address, get("/in", "X-Forwarded-For: 2001:db8::9"))).status == 200
            clients[0].send(slow("2001:db8::1"))
            await until(lambda: under_way(3))
            for client in clients:
                client.close()
            await until(lambda: under_way(0))
            assert (await once(address, get("/in", "X-Forwarded-For: 2001:db8::9"))).status == 200

    run(main())


def test_a_trusted_proxy_may_have_more() -> None:
    async def main() -> None:
        options = GatewaySettings(port=0, connections_per_address=1, trusted_proxies="127.0.0.0/8")
        async with running(Tiny(), options) as address:
            clients = [await Client.to(address) for _ in range(10)]
            for client in clients:
                assert (await client.ask(get("/in"))).status == 200
                client.close()

    run(main())
