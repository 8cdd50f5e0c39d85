"""Requests that two servers could read in two ways: refused, and nothing that comes after them is ever executed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings
from tests.support.gateways.echo import Tiny
from tests.support.gateways.raw_client import CHUNKED, Client, Process, get, loops, once, post, process, run, until
from tests.support.gateways.smuggling import FIRST_IS_GOOD, PAIRS, pair

NGINX = next((path for path in (shutil.which("nginx"), "/usr/sbin/nginx") if path and os.access(path, os.X_OK)), None)
OPTIONS = GatewaySettings(port=0, head_timeout=0.4, body_idle_timeout=0.4, keep_alive=0.2)

every_pair = pytest.mark.parametrize("name", PAIRS)
each_loop = pytest.mark.parametrize("loop", loops())


@each_loop
@every_pair
def test_it_is_refused_and_nothing_after_it_is_executed(name: str, loop: Any) -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, OPTIONS) as address:
            client = await Client.to(address)
            client.send(pair(name, "/first", "/second"))
            answers = await client.answers()
        good = ["/first"] if name in FIRST_IS_GOOD else []
        assert app.executed == good
        assert [answer.status for answer in answers] in ([200] * len(good), [*([200] * len(good)), 400], [431])
        for answer in answers[len(good) :]:
            assert answer.json["error"]["code"] in ("bad_request", "head_too_large")
            assert answer.headers["connection"] == "close"

    run(main(), loop)


@each_loop
@pytest.mark.parametrize("size", [1, 7])
def test_it_is_refused_in_pieces_too(size: int, loop: Any) -> None:
    """Each pair byte by byte, as far as the server will have it."""

    async def pieces(address: str, data: bytes) -> None:
        client = await Client.to(address)
        for start in range(0, min(len(data), 1000), size):
            client.send(data[start : start + size])
            await asyncio.sleep(0)
        client.send(data[1000:])
        await client.closed()

    async def main() -> None:
        app = Tiny()
        async with running(app, OPTIONS) as address:
            pairs = {name: pair(name, "/first", "/second") for name in PAIRS if name not in FIRST_IS_GOOD}
            await asyncio.gather(*(pieces(address, data) for data in pairs.values()))
        assert app.executed == []

    run(main(), loop)


#: what is allowed, though it looks a little like the others
GOOD: dict[str, tuple[bytes, str]] = {
    "chunks": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", "/chunked"),
    "chunk extensions": (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', "/chunked"),
    "chunk sizes with zeros": (CHUNKED + b"0005\r\nhello\r\n00\r\n\r\n", "/chunked"),
    "many chunks": (CHUNKED + b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n", "/chunked"),
    "chunked in capitals": (CHUNKED.replace(b": chunked", b": CHUNKED") + b"5\r\nhello\r\n0\r\n\r\n", "/chunked"),
    "chunked between white space": (CHUNKED.replace(b": chunked", b":\t Chunked  ") + b"0\r\n\r\n", "/chunked"),
    "chunk sizes in hex of both cases": (CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "/chunked"),
    "length between white space": (post("/white", b"hello").replace(b"Length: 5", b"Length:\t 5  "), "/white"),
    "names in all cases": (b"GET /case HTTP/1.1\r\nhOST: gateway\r\nCONNECTION: Keep-Alive\r\n\r\n", "/case"),
    "no white space": (b"GET /tight HTTP/1.1\r\nHost:gateway\r\n\r\n", "/tight"),
    "Host before white space": (b"GET /host HTTP/1.1\r\nHost: gateway \t\r\n\r\n", "/host"),
    "URL without a path": (b"GET http://gateway HTTP/1.1\r\nHost: gateway\r\n\r\n", "/"),
    "URL without a path but a query": (b"GET http://gateway?a=b HTTP/1.1\r\nHost: gateway\r\n\r\n", "/"),
    "URL whose scheme is in capitals": (b"GET HTTP://gateway/a HTTP/1.1\r\nHost: gateway\r\n\r\n", "/a"),
    "length 0": (post("/empty", b""), "/empty"),
    "URL of this host": (b"GET http://Gateway:80/a?b HTTP/1.1\r\nHost: gateway:80\r\n\r\n", "/a"),
    "Host that is an address": (get("/v6", host="[::1]:8080"), "/v6"),
    "two slashes": (get("//another/a"), "//another/a"),
    "empty lines before": (b"\r\n\r\n" + get("/a"), "/a"),
    "bytes beyond ASCII in a value": (get("/a", "X: \xe9"), "/a"),
    "HTTP/1.0 without Host": (b"GET /old HTTP/1.0\r\n\r\n", "/old"),
}


@pytest.mark.full(keep=8)
@pytest.mark.parametrize("name", GOOD)
def test_what_is_sound_passes_and_so_does_what_follows(name: str) -> None:
    request, path = GOOD[name]

    async def main() -> None:
        app = Tiny()
        async with running(app, OPTIONS) as address:
            client = await Client.to(address)
            last = name == "HTTP/1.0 without Host"
            client.send(request + (b"" if last else get("/second")))
            answers = await client.answers()
        assert [answer.status for answer in answers] == ([200] if last else [200, 200])
        assert app.executed == ([path] if last else [path, "/second"])

    run(main())


def test_answers_of_sound_requests_before_it_come_first() -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, OPTIONS) as address:
            client = await Client.to(address)
            client.send(get("/1") + get("/2") + pair("length and chunked", "/first", "/second"))
            assert [answer.status for answer in await client.answers()] == [200, 200, 400]
        assert app.executed == ["/1", "/2"]

    run(main())


def test_a_queued_request_whose_body_is_none_never_runs() -> None:
    async def main() -> None:
        app = Tiny()
        async with running(app, OPTIONS) as address:
            client = await Client.to(address)
            client.send(get("/1") + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + CHUNKED + b"oops\r\n" + get("/second"))
            assert [answer.status for answer in await client.answers()] == [200, 200, 400]
        assert app.executed == ["/1", "/chunked"]

    run(main())


def test_trailers_are_not_told_as_headers() -> None:
    """They are refused; until then the application may run, and must not take them for what the head said."""

    async def main() -> None:
        seen: list[list[tuple[bytes, bytes]]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                while (await receive())["type"] != "http.disconnect":
                    pass
                seen.append(scope["headers"])

        async with running(app, OPTIONS) as address:
            client = await Client.to(address)
            client.send(CHUNKED + b"5\r\nhello\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
            assert [answer.status for answer in await client.answers()] == [400]
        assert [name for name, _ in seen[0]] == [b"host", b"transfer-encoding"]

    run(main())


# --- Behind nginx ---

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/errors crit;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout 100ms;
    client_header_timeout 200ms;
    client_body_timeout 200ms;
    lingering_close off;
    upstream gateway {{ server {upstream}; keepalive 1; }}
    server {{
        listen unix:{folder}/socket;
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


@pytest.fixture(params=["on", "off"])
def nginx(request: pytest.FixtureRequest) -> Iterator[Callable[[Process], str]]:
    """Start an nginx before a server, with and without buffering of requests; gives its address."""
    if NGINX is None:
        pytest.skip("there is no nginx here")
    with tempfile.TemporaryDirectory(prefix="rq") as name:
        folder, started = Path(name), list[subprocess.Popen[bytes]]()

        def start(server: Process) -> str:
            upstream = server.address.removeprefix("http://")
            text = CONFIGURATION.format(folder=folder, upstream=upstream, buffering=request.param)
            (folder / "nginx.conf").write_text(text)
            command = [NGINX or "", "-p", name, "-e", f"{name}/errors", "-c", f"{name}/nginx.conf"]
            started.append(subprocess.Popen(command))
            return f"unix:{folder}/socket"

        yield start
        for one in started:
            one.terminate()
            one.wait()


@pytest.mark.full
def test_behind_nginx_each_answer_is_that_of_its_own_request(nginx: Callable[[Process], str]) -> None:
    """Whatever nginx makes of the pairs: it passes as many answers on as the gateway has executed requests.

    Its connections to the gateway are kept and shared, so a stowaway's answer would be somebody else's.
    """

    async def innocent(front: str, number: int) -> None:
        assert (await once(front, get(f"/innocent-{number}", "Connection: close"))).json[
            "path"
        ] == f"/innocent-{number}"

    async def main(server: Process, front: str) -> None:
        await until(lambda: connects(front))
        for number, name in enumerate(PAIRS):
            client = await Client.to(front)
            client.send(pair(name, f"/first-{number}", f"/second-{number}"))
            told = (await client.closed()).count(b"HTTP/1.1 200 OK")
            await innocent(front, number)
            executed: list[str] = (await once(server.address, get("/seen"))).json["executed"]
            ours = [path for path in executed if path.endswith(f"-{number}") and not path.startswith("/innocent")]
            assert len(ours) == told, (name, ours, told)
            assert len(ours) == len(set(ours)), (name, ours)

    with process() as server:
        run(main(server, nginx(server)))


async def connects(front: str) -> bool:
    try:
        (await Client.to(front)).close()
    except OSError:
        return False
    return True
