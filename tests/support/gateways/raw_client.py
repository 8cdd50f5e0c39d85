"""Clients that speak HTTP by hand, and the tiny application's server as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from redisq.gateway.settings import GatewaySettings

T = TypeVar("T")

PATIENCE = 60.0  # seconds after which a test that waits for something has failed
ROOT = Path(__file__).parents[3]


def get(path: str, *headers: str, host: str = "gateway") -> bytes:
    """Write a request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode("latin-1")


def post(path: str, body: bytes) -> bytes:
    """Write a request with a body."""
    return f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


CHUNKED = b"POST /chunked HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Answer:
    """One answer: status, headers, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, address: str, **options: Any) -> Client:
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        parts = urlsplit(address)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, **options))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer | None:
        """Read one answer; None when the server has closed the connection instead."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-1])}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, body)

    async def ask(self, request: bytes) -> Answer:
        self.send(request)
        answer = await self.answer()
        assert answer is not None
        return answer

    async def answers(self) -> list[Answer]:
        """Read all answers until the server closes the connection."""
        found: list[Answer] = []
        async with asyncio.timeout(PATIENCE):
            while answer := await self.answer():
                found.append(answer)
        self.close()
        return found

    async def closed(self) -> bytes:
        """Read until the server has closed the connection, in whichever way."""
        read = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while data := await self.reader.read(65_536):
                    read = (read + data)[:65_536]
            except ConnectionError:
                pass
        self.close()
        return read

    def close(self) -> None:
        self.writer.transport.abort()


async def once(address: str, request: bytes) -> Answer:
    """Ask on a connection of its own."""
    client = await Client.to(address)
    try:
        return await client.ask(request)
    finally:
        client.close()


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Wait for something that nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


class Process:
    """A server in a process of its own."""

    def __init__(self, **options: Any) -> None:
        text = GatewaySettings(port=0, **options).model_dump_json()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.support.gateways.echo", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        assert self.popen.stdout
        self.address = self.popen.stdout.readline().strip()
        assert self.address.startswith("http"), self.popen.communicate()

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, and give its exit code."""
        code = self.popen.wait(PATIENCE)
        self.errors = self.popen.communicate()[1]
        return code

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()

    def files(self) -> int:
        """Count its open files."""
        return len(os.listdir(f"/proc/{self.popen.pid}/fd"))

    def memory(self) -> tuple[float, float]:
        """Give its memory now, and the most that it ever was, in MiB."""
        lines = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        told = {
            name: int(value.split()[0])
            for name, _, value in (line.partition(":") for line in lines)
            if "VmRSS" in name or "VmHWM" in name
        }
        return told["VmRSS"] / 1024, told["VmHWM"] / 1024


@contextmanager
def process(**options: Any) -> Iterator[Process]:
    """Run a server in a process of its own, which ends with the block."""
    one = Process(**options)
    try:
        yield one
    finally:
        one.kill()


def loops() -> list[Any]:
    """The kinds of event loops there are."""
    try:
        import uvloop
    except ImportError:
        return [pytest.param(None, id="asyncio")]
    return [pytest.param(None, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]


def run(main: Coroutine[Any, Any, T], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run on a loop of this kind; what never ends has failed."""

    async def patiently() -> T:
        async with asyncio.timeout(2 * PATIENCE):
            return await main

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(patiently())
