"""Whether a client got an answer: a connection tells when it was cut before the answer was read.

What a server writes to a connection whose other end has closed is lost, and no error says so. But the other end's
system says that it got what it never read (a reset), or did not acknowledge it before it closed. Linux tells both.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LINE = "redisq.line"  # in the scope
_SECONDS = 2.0  # until an answer counts as read, if it was not before
_TCP_CLOSE = 7  # in Linux' words
_SIOCOUTQ = 0x5411  # asks Linux how many bytes were sent and not acknowledged


class Line:
    """One client's connection, as its requests see it."""

    def __init__(self) -> None:
        self._cut: Callable[[], None] | None = None
        self._sent = False
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, cut: Callable[[], None]) -> None:
        """Call `cut` if the client turns out not to have read the answer that is about to be sent."""
        self.heard()
        if self._over:
            cut()
        else:
            self._cut, self._sent = cut, False

    def sent(self) -> None:
        """Take note that the answer has been sent, all of it."""
        self._sent = True
        if self._cut is not None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self.heard)

    def heard(self) -> None:
        """Take note that the client has read what was sent: it has sent the next request, or is there still."""
        self._cut = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ended(self, error: Exception | None, *, unread: bool) -> None:
        """Take note that the connection is no more, by an `error`, or closed by the client with something `unread`."""
        cut, self._over = self._cut, True
        self.heard()
        if cut is not None and (error is not None or unread or not self._sent):
            cut()


class Lined(HttpToolsProtocol):
    """A server's side of a connection, whose requests find its line in their scope."""

    _line: Line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._line = Line()
        super().connection_made(transport)  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._line.heard()
        self.scope[LINE] = self._line  # type: ignore[literal-required]

    def eof_received(self) -> None:
        """End: the client has closed. What was not written by now goes nowhere, though the transport still takes it."""
        self._line.ended(None, unread=_is_unread(self.transport))
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._line.ended(exc, unread=False)


def _is_unread(transport: Any) -> bool:
    """Return whether a client that closes has not got all that was sent; False where the system does not tell."""
    if transport.get_write_buffer_size():
        return True
    connection = transport.get_extra_info("socket")
    try:
        import fcntl

        with socket.socket(fileno=socket.dup(connection.fileno())) as own:
            if own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
                return True  # it was reset after it had been closed
            (waiting,) = struct.unpack("i", fcntl.ioctl(own.fileno(), _SIOCOUTQ, b"\0\0\0\0"))
            return bool(waiting)
    except (ImportError, OSError, AttributeError):
        return False
