"""The in-memory server: fakeredis with a clock of its own, on a port of 127.0.0.1. A process has one for all tests."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

from redisq.store import scripts
from redisq.testing.virtual_clock import Clock

_LONGEST_WAIT = 0.05  # seconds of a BLPOP: fakeredis does not notice that who waits has gone
_LAPSED = 8  # where a claim has the argument `lapsed`, see claim.lua

_servers: dict[int, Server] = {}  # by process: a forked child has none of its parent's threads


class Server:
    """A running server. Each queue begins with `reset`, and has all of it.

    `clock` is what TIME, the ids of entries and the expiry of keys go by. Claims take over at once what had `lapsed_by`
    then, in milliseconds: nobody else is at work here who could renew it yet.
    """

    def __init__(self) -> None:
        from fakeredis import TcpFakeServer

        self.clock = Clock()
        self.lapsed_by = 0
        self._claim = scripts.load("claim").text

        class Listening(TcpFakeServer):
            request_queue_size = 128  # with its own 5, some of many simultaneous connections wait a second

        tcp = Listening(("127.0.0.1", 0))
        tcp.daemon_threads = True
        self._fake = tcp.fake_server
        self._give_keys_the_time()
        base: Any = tcp.RequestHandlerClass

        class Handler(base):  # type: ignore[misc]
            def setup(handler: Any) -> None:  # noqa: N805
                super().setup()
                self._give_the_time(handler.current_client.get_socket())

        tcp.RequestHandlerClass = Handler
        threading.Thread(target=tcp.serve_forever, name="redisq-testing", daemon=True).start()
        atexit.register(tcp.server_close)
        self.url = f"redis://127.0.0.1:{tcp.server_address[1]}/0"

    def reset(self) -> None:
        """Forget everything, and go by the time of day again."""
        with self._fake.lock:
            self._fake.dbs[0].clear()
        self.clock, self.lapsed_by = Clock(), 0

    def _give_keys_the_time(self) -> None:
        database = self._fake.dbs[0]
        now = property(lambda _: self.clock.ms / 1000, lambda *_: None)  # which it sets at each command
        database.__class__ = type("Database", (type(database),), {"time": now})

    def _give_the_time(self, commands: Any) -> None:
        """Replace the commands of one connection that tell the time, and those that wait."""
        run, add, wait = commands.eval, commands.xadd, commands.blpop

        def moment() -> list[bytes]:
            return [b"%d" % (self.clock.ms // 1000), b"%d" % (self.clock.ms % 1000 * 1000)]

        def add_now(key: Any, id: bytes, *fields: bytes) -> Any:
            return add(key, b"%d-*" % self.clock.ms if id == b"*" else id, *fields)

        def wait_a_little(*arguments: bytes) -> Any:
            *lists, seconds = arguments
            return wait(*lists, b"%.3f" % min(float(seconds) or _LONGEST_WAIT, _LONGEST_WAIT))

        def run_script(text: bytes, count: int, *arguments: bytes) -> Any:
            if text == self._claim and self.lapsed_by:
                at = count + _LAPSED
                arguments = (*arguments[:at], b"%d" % self.lapsed_by, *arguments[at + 1 :])
            return run(text, count, *arguments)

        commands.time, commands.xadd, commands.blpop, commands.eval = moment, add_now, wait_a_little, run_script


def server() -> Server:
    """Return this process' server, started on first use.

    Raises:
        ImportError: fakeredis is missing; the text says how to install it.
    """
    found = _servers.get(os.getpid())
    if found is None:
        try:
            import fakeredis  # noqa: F401
            import lupa  # type: ignore[import-untyped]  # noqa: F401
        except ImportError:
            from redisq.runtime import extras

            raise ImportError(f"an in-memory queue needs the package fakeredis: {extras.install('testing')}") from None
        found = _servers[os.getpid()] = Server()
    return found
