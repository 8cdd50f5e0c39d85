"""Asks an HTTP server as fast as it answers: `python -m tests.benchmarks.asking PORT CONNECTIONS COUNT`, the request on
stdin as its bytes.

It stands on epoll itself and reads no more of an answer than its first line and its length, which is the same in all:
that costs 15 us a request where a client over asyncio costs 60, so that of two cores one is left to the server.
Prints one line of JSON: the `seconds` and `cpu` seconds of it all, and the `latencies`.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

WARM_UP = 5  # requests of each connection before the clock starts
_PATIENCE = 30.0  # seconds for the next answer, whichever
_MOST = 65_536


class Connections:
    """Connections that each have one request under way."""

    def __init__(self, port: int, number: int, request: bytes) -> None:
        self._request = request
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(number):
            made = socket.create_connection(("127.0.0.1", port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setblocking(False)
            self._sockets[made.fileno()] = made
            self._poll.register(made, select.EPOLLIN)
        self._length = self._first()

    def _first(self) -> int:
        """Give the length of an answer, its head included."""
        first = next(iter(self._sockets.values()))
        first.sendall(self._request)
        first.settimeout(_PATIENCE)
        found = b""
        while b"\r\n\r\n" not in found:
            found += first.recv(_MOST)
        head, _, body = found.partition(b"\r\n\r\n")
        name = b"content-length:"
        sizes = [int(line[len(name) :]) for line in head.lower().split(b"\r\n") if line.startswith(name)]
        if not sizes:
            raise SystemExit("an answer has no length")
        while len(body) < sizes[0]:
            body += first.recv(_MOST)
        first.setblocking(False)
        _check(found)
        return len(head) + 4 + sizes[0]

    def ask(self, count: int) -> list[float]:
        """Ask so many times, and give how long each answer took.

        Raises:
            SystemExit: one was no 201, or none came.
        """
        sockets, poll, request, length, clock = self._sockets, self._poll, self._request, self._length, time.monotonic
        left, took = count, list[float]()
        sent: dict[int, float] = {}
        missing = dict.fromkeys(sockets, length)
        for number in list(sockets)[:count]:
            sent[number] = clock()
            sockets[number].send(request)
            left -= 1
        while len(took) < count:
            ready = poll.poll(_PATIENCE)
            if not ready:
                raise SystemExit("no answer came")
            for number, _ in ready:
                connection = sockets[number]
                part = connection.recv(_MOST)
                if missing[number] == length:
                    _check(part)
                missing[number] -= len(part)
                if missing[number] > 0 and part:
                    continue
                if missing[number]:
                    raise SystemExit("an answer has another length than the first")
                now = clock()
                took.append(now - sent[number])
                missing[number] = length
                if left:
                    left -= 1
                    sent[number] = now
                    connection.send(request)
        return took

    def close(self) -> None:
        """Close them."""
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()


def _check(part: bytes) -> None:
    if not part.startswith(b"HTTP/1.1 201 "):
        raise SystemExit(f"answered: {part[:300]!r}")


def main(port: int, number: int, count: int) -> None:
    """Connect, warm up, ask, tell."""
    connections = Connections(port, number, sys.stdin.buffer.read())
    connections.ask(WARM_UP * number)
    began, cpu = time.perf_counter(), time.process_time()
    latencies = connections.ask(count)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    connections.close()
    print(json.dumps({"seconds": seconds, "cpu": cpu, "latencies": latencies}), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
