"""Commands as Redis wants them on the wire (RESP): by hiredis when it is installed, else in a few lines of ours.

redis-py asks about the kind of each argument several times over, which costs a batch of 500 as much as its handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

Pack: TypeAlias = Callable[[tuple[bytes | str | int, ...]], bytes]


def pack_in_python(parts: tuple[bytes | str | int, ...]) -> bytes:
    """Write a command as an array of bulk strings."""
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if type(part) is bytes else str(part).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


def _fastest() -> Pack:
    try:
        import hiredis
    except ImportError:
        return pack_in_python
    return cast(Pack, hiredis.pack_command)  # its own hints know no tuple of several


pack: Pack = _fastest()
