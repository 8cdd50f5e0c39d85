"""How an answer leaves: whole, or seen to be none, and with no header that another one hides in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from redisq.gateway.server.response import Cycle
from redisq.gateway.server.server import running
from redisq.gateway.settings import GatewaySettings
from tests.support.gateways.raw_client import Client, get, run

Headers = Sequence[tuple[bytes, bytes]]


class Line(asyncio.Transport):
    """A transport that notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True


class Flow:
    """Never full."""

    write_paused = False


def answered(parts: Sequence[dict[str, Any]], method: str = "GET", *, keep_alive: bool = True) -> Line:
    """Let an application answer in these parts, and give what was written."""
    line = Line()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for part in parts:
            await send(part)

    async def main() -> None:
        cycle = Cycle(
            scope={"type": "http", "method": method},  # type: ignore[typeddict-item]
            transport=line,
            flow=Flow(),  # type: ignore[arg-type]
            logger=logging.getLogger("uvicorn.error"),
            access_logger=logging.getLogger("uvicorn.access"),
            access_log=False,
            default_headers=[(b"date", b"now")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=lambda: None,
        )
        await cycle.run_asgi(app)

    asyncio.run(main())
    return line


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


TWO = (b"content-length", b"2")


def test_an_empty_part_ends_no_stream() -> None:
    line = answered([start(), body(b"", more=True), body(b"x")])
    assert b"".join(line.writes).partition(b"\r\n\r\n")[2] == b"1\r\nx\r\n0\r\n\r\n"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body_is_its_head(method: str, status: int) -> None:
    sent = b"not sent" if method == "HEAD" else b""
    written = b"".join(answered([start(status=status), body(sent)], method).writes)
    assert written.endswith(b"date: now\r\n\r\n")


def test_head_keeps_the_length_that_get_would_have() -> None:
    line = answered([start(TWO), body(b"ok")], "HEAD")
    assert b"".join(line.writes) == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\n\r\n"


@pytest.mark.parametrize(("headers", "keep_alive"), [([TWO], False), ([TWO, (b"connection", b"close")], True)])
def test_the_last_answer_of_a_connection_says_so_once(headers: Headers, keep_alive: bool) -> None:
    line = answered([start(*headers), body(b"ok")], keep_alive=keep_alive)
    assert line.writes[0].count(b"connection: close\r\n") == 1
    assert line.closed


@pytest.mark.parametrize("data", [b"o", b"okay"])
def test_a_body_of_another_length_is_no_whole_answer(data: bytes) -> None:
    line = answered([start(TWO), body(data)])
    assert len(b"".join(line.writes).partition(b"\r\n\r\n")[2]) < 2
    assert line.closed


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"1\r\nset-cookie: a=b"),
        (b"x", b"1\r\n\r\n<html>"),
        (b"x", b"1\nset-cookie: a=b"),
        (b"x", b"1\rset-cookie: a=b"),
        (b"x", b"\0"),
        (b"x\r\nset-cookie", b"a=b"),
        (b"x y", b"1"),
    ],
)
def test_no_header_hides_another(header: tuple[bytes, bytes]) -> None:
    line = answered([start(TWO, header), body(b"ok")])
    assert line.writes == []
    assert line.closed


def test_an_application_that_does_not_answer_is_a_500() -> None:
    assert b"".join(answered([]).writes)[:13] == b"HTTP/1.1 500 "


def test_one_that_ends_half_way_closes_the_connection() -> None:
    line = answered([start(), body(b"half", more=True)])
    assert line.closed
    assert not b"".join(line.writes).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("parts", [[body(b"x")], [start(), start()], [start(TWO), body(b"ok"), body(b"more")]])
def test_parts_out_of_order_are_refused(parts: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    answered(parts)
    assert "Exception in ASGI application" in caplog.text


def test_a_task_that_is_cancelled_by_its_application_is_answered() -> None:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            raise asyncio.CancelledError

    async def main() -> None:
        async with running(app, GatewaySettings(port=0)) as address:
            client = await Client.to(address)
            client.send(get("/"))
            assert [answer.status for answer in await client.answers()] == [500]

    run(main())
