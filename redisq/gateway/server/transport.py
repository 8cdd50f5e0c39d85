"""The sending side of a connection: it can be ended while the other side is still read, and tells when it is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class BoundedTransport(asyncio.Transport):
    """A transport whose `close` is another's decision, and that knows how long it has not been read empty."""

    def __init__(self, inner: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__()
        self._inner = inner
        self._close = close
        self._ended = False
        self._held = False
        self._stuck_since: float | None = None
        self._due = 0.0  # when what is in the buffer must have been read
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, unless this side was ended."""
        if not self._ended:
            self._inner.write(data)

    def close(self) -> None:
        """Ask the connection to close; it may end this side first, and read on for a while."""
        self._close()

    def end(self) -> None:
        """End this side when all is sent; TLS has no way to say so, but its last answer tells."""
        if not self._ended:
            self._ended = True
            if self._inner.can_write_eof() and not self._inner.is_closing():
                self._inner.write_eof()

    def close_both(self) -> None:
        """Close both sides when all is sent."""
        self._ended = True
        self._inner.close()

    def abort(self) -> None:
        """Close both sides now."""
        self._ended = True
        self._inner.abort()

    def is_closing(self) -> bool:
        """Return whether nothing more can be sent."""
        return self._ended or self._inner.is_closing()

    def stuck(self, now: float, timeout: float, rate: float) -> bool:
        """Return whether the client does not read: each byte in the buffer allows 1/rate seconds beyond `timeout`."""
        size = self.get_write_buffer_size()
        if not size:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since, self._due = now, now + timeout + size / rate
        else:
            self._due += max(0, size - self._size) / rate
        self._size = size
        return bool(size) and now > self._due

    def get_write_buffer_size(self) -> int:
        """Count the bytes that wait to be sent."""
        return self._inner.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._inner.is_closing():
            self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless it is held."""
        if not self._held and not self._inner.is_closing():
            self._inner.resume_reading()

    def hold(self) -> None:
        """Read no more until `release`, whoever wants to."""
        self._held = True
        self.pause_reading()

    def release(self) -> None:
        """Let `resume_reading` count again."""
        self._held = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._inner.get_extra_info(name, default)
