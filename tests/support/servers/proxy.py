"""A proxy between a client and a Redis that misbehaves on request, and other means to watch what goes over the wire."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from redisq.store import scripts


def until(condition: Callable[[], object], patience: float = 20.0) -> None:
    """Return once `condition` holds; fail when it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for does not happen"
        time.sleep(0.002)


def script(name: str) -> bytes:
    """Give what marks a request that runs the script `name` by its hash."""
    return scripts.load(name).sha


class HeldReply:
    """A reply that the proxy keeps until it is let go."""

    def __init__(self) -> None:
        self._free, self._passed = threading.Event(), threading.Event()

    def let_go(self) -> None:
        """Pass the reply on, and return when that is done, or has failed because nobody takes it any more."""
        self._free.set()
        assert self._passed.wait(20), "there was no reply to pass on"

    def pass_on(self, client: socket.socket, reply: bytes) -> None:
        """Wait, then send."""
        self._free.wait()
        try:
            client.sendall(reply)
        finally:
            self._passed.set()


@dataclass(eq=False)
class _Pipe:
    """One client's connection and the one to the server that belongs to it."""

    client: socket.socket
    server: socket.socket
    cut: bool = False  # in the place of the next reply
    mute: bool = False  # from now on the client gets nothing
    held: HeldReply | None = None  # the next reply

    def close(self, reset: bool = False) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    end.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                end.close()


@dataclass
class _Rule:
    """What to do with the next `times` requests that hold `mark`, after letting `skip` of them pass."""

    act: Callable[[_Pipe, bytes], bytes]
    mark: bytes
    times: int
    skip: int


@dataclass
class Proxy:
    """Forward TCP connections to the server at `target`, which may be changed at any time.

    `delay` gives the seconds each reply is late; `split` sends replies byte by byte; `peak` is the largest number of
    connections open at once, `accepted` the number of all so far. While there is no server at `target`, it hangs up on
    everybody who connects.
    """

    target: str
    delay: Callable[[], float] | None = None
    split: bool = False
    peak: int = field(default=0, init=False)
    accepted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._requests: list[bytes] = []
        self._pipes: set[_Pipe] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    # --- What may go wrong ---

    def cut_reply(self, mark: bytes, times: int = 1, skip: int = 0) -> None:
        """Let the server serve the next requests that hold `mark`, and hang up instead of passing the replies on."""

        def act(pipe: _Pipe, request: bytes) -> bytes:
            pipe.cut = True
            return request

        self._add(act, mark, times, skip)

    def swallow_reply(self, mark: bytes, times: int = 1, skip: int = 0) -> None:
        """Let the server serve the next requests that hold `mark`, and pass nothing on, without hanging up."""

        def act(pipe: _Pipe, request: bytes) -> bytes:
            pipe.mute = True
            return request

        self._add(act, mark, times, skip)

    def hold_reply(self, mark: bytes) -> HeldReply:
        """Let the server serve the next request that holds `mark`, and keep the reply until told."""
        held = HeldReply()

        def act(pipe: _Pipe, request: bytes) -> bytes:
            pipe.held = held
            return request

        self._add(act, mark, 1, 0)
        return held

    def swallow_request(self, mark: bytes, times: int = 1, skip: int = 0) -> None:
        """Keep the next requests that hold `mark` from the server, without hanging up."""
        self._add(lambda pipe, request: b"", mark, times, skip)

    def reset(self, mark: bytes, times: int = 1, skip: int = 0) -> None:
        """Keep the next requests that hold `mark` from the server and reset their connections."""

        def act(pipe: _Pipe, request: bytes) -> bytes:
            pipe.close(reset=True)
            return b""

        self._add(act, mark, times, skip)

    def answer(self, mark: bytes, reply: bytes, times: int = 1, skip: int = 0) -> None:
        """Answer the next requests that hold `mark` in the server's stead."""

        def act(pipe: _Pipe, request: bytes) -> bytes:
            pipe.client.sendall(reply)
            return b""

        self._add(act, mark, times, skip)

    def heal(self) -> None:
        """Behave from now on."""
        with self._lock:
            self._rules.clear()

    def hang_up(self) -> None:
        """Close all connections that are open now."""
        with self._lock:
            pipes = list(self._pipes)
        for pipe in pipes:
            pipe.close()

    # --- What was seen ---

    def count(self, mark: bytes) -> int:
        """Count the requests that held `mark`."""
        with self._lock:
            return sum(mark in request for request in self._requests)

    @property
    def open(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._pipes)

    # --- The works ---

    def _add(self, act: Callable[[_Pipe, bytes], bytes], mark: bytes, times: int, skip: int) -> None:
        with self._lock:
            self._rules.append(_Rule(act, mark, times, skip))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    server = _connect(self.target)
                except OSError:
                    client.close()
                    continue
                pipe = _Pipe(client, server)
                with self._lock:
                    self._pipes.add(pipe)
                    self.peak = max(self.peak, len(self._pipes))
                threading.Thread(target=self._run, args=(pipe, self._forward), daemon=True).start()
                threading.Thread(target=self._run, args=(pipe, self._back), daemon=True).start()

    def _run(self, pipe: _Pipe, work: Callable[[_Pipe], None]) -> None:
        with contextlib.suppress(OSError):
            work(pipe)
        with self._lock:
            self._pipes.discard(pipe)
        pipe.close()

    def _forward(self, pipe: _Pipe) -> None:
        while request := pipe.client.recv(1 << 20):
            act = self._rule_for(request)
            pipe.server.sendall(act(pipe, request) if act else request)

    def _rule_for(self, request: bytes) -> Callable[[_Pipe, bytes], bytes] | None:
        with self._lock:
            self._requests.append(request)
            for rule in self._rules:
                if rule.mark in request and rule.times:
                    if rule.skip:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    return rule.act
        return None

    def _back(self, pipe: _Pipe) -> None:
        while reply := pipe.server.recv(1 << 20):
            if pipe.cut:
                return
            if pipe.mute:
                continue
            if pipe.held:
                pipe.held.pass_on(pipe.client, reply)
                pipe.held = None
                continue
            if self.delay:
                time.sleep(self.delay())
            if not self.split:
                pipe.client.sendall(reply)
                continue
            for i in range(len(reply)):
                pipe.client.sendall(reply[i : i + 1])
                time.sleep(0.0002)  # so that each byte arrives alone

    def close(self) -> None:
        """Hang up on everybody."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return socket.create_connection((parts.hostname, parts.port))
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(unquote(parts.path))
    except OSError:
        server.close()
        raise
    return server


class Trap:
    """A listening socket at `url` that nobody may connect to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def untouched(self) -> bool:
        """Tell whether nobody has connected so far: the system takes connections without our help."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return True
        connection.close()
        return False

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
