"""Whether an idle connection is one still: what the server or a NAT has closed is noticed before it is used."""

from __future__ import annotations

import select
import socket
from typing import Any

#: Seconds, and how often: a NAT that forgets connections is reminded, and one whose server is gone has an end.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


def is_quiet(descriptor: int) -> bool:
    """Return whether nothing has come on an idle socket: what comes there is its end, or an answer to nobody.

    It takes 1 us. Not `select`, which knows no descriptors beyond 1024.
    """
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)


def is_sound(connection: Any) -> bool:
    """Return whether one of redis-py's idle connections for asyncio is connected, and nothing has come on it."""
    writer = connection._writer
    held = None if writer is None else writer.transport.get_extra_info("socket")
    return held is not None and is_quiet(held.fileno())


def keepalive() -> dict[int, int]:
    """Return the options of a TCP socket that has the system look after it while it is idle."""
    return {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
