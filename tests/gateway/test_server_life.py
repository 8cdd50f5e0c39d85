"""The server's life: it starts, says where it is, stops without cutting anybody short, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from redisq.errors import InvalidSettings, RedisQError
from redisq.gateway.server.server import running
from redisq.gateway.server.stopping import Stopping
from redisq.gateway.settings import GatewaySettings
from tests.support.gateways.echo import Tiny, say
from tests.support.gateways.raw_client import Client, Process, get, loops, once, process, run, until

each_loop = pytest.mark.parametrize("loop", loops())


async def waiting(address: str, count: int) -> bool:
    return bool((await once(address, get("/seen"))).json["under_way"] == count)


@pytest.fixture
def server() -> Iterator[Process]:
    with process() as one:
        yield one


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_requests_have_ended_and_long_waits_end_at_once(server: Process, number: int) -> None:
    async def main() -> None:
        idle, half, long = [await Client.to(server.address) for _ in range(3)]
        assert (await idle.ask(get("/idle"))).status == 200
        half.send(b"GET /half HTTP/1.1\r\n")
        long.send(get("/wait"))
        await until(lambda: waiting(server.address, 1))
        server.signal(number)
        assert await idle.answers() == []
        assert [answer.status for answer in await half.answers()] == [503]
        (answer,) = await long.answers()
        assert answer.json["stopped"] is True
        assert answer.headers["connection"] == "close"
        assert await asyncio.to_thread(server.ended) == 0
        with pytest.raises(ConnectionError):
            await Client.to(server.address)
        assert server.errors == ""

    run(main())


def test_a_request_that_outlasts_the_grace_is_cut() -> None:
    async def main(server: Process) -> None:
        client = await Client.to(server.address)
        client.send(get("/hang"))
        await until(lambda: waiting(server.address, 1))
        server.signal()
        assert [answer.status for answer in await client.answers()] == [503]
        assert await asyncio.to_thread(server.ended) == 1
        assert "Traceback" not in server.errors

    with process(grace=0.2) as server:
        run(main(server))


def test_a_second_signal_cuts_at_once() -> None:
    async def main(server: Process) -> None:
        client = await Client.to(server.address)
        client.send(get("/hang"))
        await until(lambda: waiting(server.address, 1))
        server.signal()
        await until(lambda: refuses(server.address))
        server.signal()
        assert [answer.status for answer in await client.answers()] == [503]
        assert await asyncio.to_thread(server.ended) == 1

    with process(grace=3600) as server:
        run(main(server))


async def refuses(address: str) -> bool:
    try:
        (await Client.to(address)).close()
    except OSError:
        return True
    return False


def test_requests_under_way_and_behind_are_answered_while_it_stops() -> None:
    async def main() -> None:
        stopping = Stopping()
        app = Tiny(stopping)
        async with running(app, GatewaySettings(port=0), stopping) as address:
            client = await Client.to(address)
            client.send(get("/wait") + get("/behind"))
            await until(lambda: waiting(address, 1))
        answers = await client.answers()
        assert [(answer.status, answer.json["path"]) for answer in answers] == [(200, "/wait"), (200, "/behind")]
        assert app.executed == ["/wait", "/behind"]

    run(main())


@each_loop
def test_it_starts_and_ends_the_application_and_leaves_no_task(loop: Any) -> None:
    async def main() -> None:
        app = Tiny()
        before = asyncio.all_tasks()
        async with running(app, GatewaySettings(port=0)) as address:
            assert app.ran
            client = await Client.to(address)
            assert (await client.ask(get("/a?b=c"))).json["query"] == "b=c"
        assert not app.ran
        assert await client.answers() == []
        await until(lambda: only(before))

    run(main(), loop)


async def only(tasks: set[asyncio.Task[Any]]) -> bool:
    return asyncio.all_tasks() <= tasks


def test_the_address_has_the_real_port_and_reads_well_for_ipv6() -> None:
    async def main() -> None:
        async with running(Tiny(), GatewaySettings(port=0, host="::1")) as address:
            assert address.startswith("http://[::1]:")
            assert not address.endswith(":0")
            answer = await once(address, get("/a"))
            assert answer.json["client"] == "::1"

    if not has_ipv6():
        pytest.skip("there is no IPv6 here")
    run(main())


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_place_that_is_taken_is_told_plainly() -> None:
    async def main() -> None:
        app = Tiny()
        async with running(Tiny(), GatewaySettings(port=0)) as address:
            port = int(address.rpartition(":")[2])
            with pytest.raises(InvalidSettings, match=r"REDISQ_HTTP_PORT: cannot listen there: .*in use"):
                async with running(app, GatewaySettings(port=port)):
                    pass
        assert not app.ran

    run(main())


def test_an_application_that_cannot_start_is_told() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": ""})

    async def main() -> None:
        with pytest.raises(RedisQError, match="could not start"):
            async with running(broken, GatewaySettings(port=0)):
                pass

    run(main())


def test_a_client_that_goes_is_told_to_the_application() -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            client.send(b"POST /a HTTP/1.1\r\nHost: gateway\r\nContent-Length: 10\r\n\r\nhalf")
            await until(lambda: waiting(address, 1))
            client.close()
            await until(lambda: waiting(address, 0))
        assert app.gone == 1

    run(main())


@each_loop
def test_an_application_that_fails_half_way_is_not_taken_for_whole(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/late":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ValueError("broken")

    async def main() -> None:
        async with running(app, GatewaySettings(port=0)) as address:
            early, late = await Client.to(address), await Client.to(address)
            early.send(get("/early"))
            assert [answer.status for answer in await early.answers()] == [500]
            late.send(get("/late") + get("/second"))
            assert not (await late.closed()).endswith(b"0\r\n\r\n")

    run(main(), loop)
    assert caplog.records


# --- Whose request it is ---


@pytest.mark.parametrize(
    ("trusted", "headers", "client", "scheme"),
    [
        ("", ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"], "127.0.0.1", "http"),
        ("10.0.0.0/8", ["X-Forwarded-For: 192.0.2.7"], "127.0.0.1", "http"),
        ("127.0.0.1", ["X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"], "192.0.2.7", "https"),
        ("127.0.0.1", ["X-Forwarded-For: 198.51.100.1, 192.0.2.7"], "192.0.2.7", "http"),
        ("127.0.0.1", ["X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 192.0.2.7"], "192.0.2.7", "http"),
        ("127.0.0.1, 10.0.0.0/8", ["X-Forwarded-For: 192.0.2.7, 10.1.2.3"], "192.0.2.7", "http"),
        ("127.0.0.1", ["X-Forwarded-Proto: javascript"], "127.0.0.1", "http"),
        ("127.0.0.1", [], "127.0.0.1", "http"),
    ],
)
def test_only_a_trusted_proxy_is_believed(trusted: str, headers: list[str], client: str, scheme: str) -> None:
    async def main() -> None:
        async with running(Tiny(), GatewaySettings(port=0, trusted_proxies=trusted)) as address:
            told = (await once(address, get("/a", *headers))).json
            assert (told["client"], told["scheme"]) == (client, scheme)

    run(main())


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in made.cert_chain_pems:
        blob.write_to_path(tmp_path / "certificate.pem", append=True)
    return {"certificate": tmp_path / "certificate.pem", "private_key": tmp_path / "key.pem"}


def test_tls(authority: trustme.CA, certificate: dict[str, Any]) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def main() -> None:
        async with running(Tiny(), GatewaySettings(port=0, **certificate)) as address:
            assert address.startswith("https://")
            client = await Client.to(address, ssl=context)
            assert (await client.ask(get("/a"))).json["scheme"] == "https"
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert [answer.status for answer in await client.answers()] == [400]

    run(main())


def test_a_handshake_that_does_not_come_is_cut(certificate: dict[str, Any]) -> None:
    async def main() -> None:
        async with running(Tiny(), GatewaySettings(port=0, head_timeout=0.3, **certificate)) as address:
            client = await Client.to(address)
            assert await client.closed() == b""

    run(main())


def test_connections_count_before_they_have_shaken_hands(certificate: dict[str, Any]) -> None:
    async def main() -> None:
        options = GatewaySettings(port=0, connections_per_address=3, **certificate)
        async with running(Tiny(), options) as address:
            clients = [await Client.to(address) for _ in range(3)]
            turned_away = await Client.to(address)
            assert await turned_away.closed() == b""
            for client in clients:
                client.close()

    run(main())


def test_a_request_that_comes_with_the_end_of_the_handshake(authority: trustme.CA, certificate: dict[str, Any]) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def main() -> None:
        async with running(Tiny(), GatewaySettings(port=0, **certificate)) as address:
            client = await Client.to(address)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            while not shaken(tls):
                client.send(outgoing.read())
                incoming.write(await client.reader.read(65_536))
            tls.write(get("/early"))
            client.send(outgoing.read())  # the handshake's end and the request, at once
            read = plaintext(tls)
            while b'"/early"' not in read:
                data = await client.reader.read(65_536)
                assert data, "the server hung up"
                incoming.write(data)
                read += plaintext(tls)
            client.close()

    run(main())


def shaken(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def plaintext(tls: ssl.SSLObject) -> bytes:
    try:
        return tls.read(65_536)
    except ssl.SSLWantReadError:
        return b""


def test_a_certificate_that_cannot_be_used_is_told_plainly(certificate: dict[str, Any], tmp_path: Path) -> None:
    async def main(**options: Any) -> None:
        with pytest.raises(InvalidSettings, match="REDISQ_HTTP_CERTIFICATE"):
            async with running(Tiny(), GatewaySettings(port=0, **options)):
                pass

    run(main(certificate=tmp_path / "none.pem"))
    run(main(certificate=certificate["private_key"]))
    run(main(private_key=certificate["private_key"]))


# --- Stopping ---


def test_a_wait_ends_when_the_gateway_is_stopped() -> None:
    async def main() -> None:
        stopping = Stopping()
        assert await stopping.wait_or(0.001) is False
        waits = asyncio.gather(*(stopping.wait_or(3600) for _ in range(10)), stopping.wait())
        await asyncio.sleep(0)
        stopping.set()
        assert (await waits)[:10] == [True] * 10
        assert await stopping.wait_or(3600) is True
        assert stopping.is_set

    run(main())


def test_an_answer_of_the_server_itself_looks_like_all_errors() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await say(send, 200, {})

        async with running(app, GatewaySettings(port=0)) as address:
            answer = await once(address, b"GET / HTTP/1.1\r\n\r\n")
            assert answer.headers["content-type"] == "application/json"
            assert "server" not in answer.headers
            error = answer.json["error"]
            assert sorted(error) == ["code", "message", "request_id"]
            assert len(error["request_id"]) == 32
            assert answer.headers["x-request-id"] == error["request_id"]

    run(main())
