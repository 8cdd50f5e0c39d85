"""What is wrong with the head of a request, beyond what the parser itself refuses. Pure.

llhttp, as httptools builds it, already refuses a bare CR or LF, a space before a colon, a folded line, control
characters, Content-Length that is twice there or beside Transfer-Encoding or no plain number, and an unknown method.
What it lets pass and two servers could read in two ways is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from redisq.gateway.server.refusals import Refused

Headers = Sequence[tuple[bytes, bytes]]

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)(.*)", re.DOTALL | re.IGNORECASE)
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # no "#": a fragment is the client's own
#: What may stand behind a value, and is no part of it (RFC 9110, 5.5).
WHITE = b" \t"
#: What stands around a field, in bytes: a colon, a space, CR and LF.
_FIELD = 4


def size_of(target: bytes, headers: Headers) -> int:
    """Count the bytes of a head, but for its first line's method and version."""
    return len(target) + sum([len(name) + len(value) + _FIELD for name, value in headers])


def check(version: str, method: bytes, headers: Headers) -> list[bytes]:
    """Check what frames a request and whom it is for; give the hosts that it names, one but for HTTP/1.0.

    Raises:
        Refused: two servers could read it in two ways, or it wants another protocol.
    """
    if version not in ("1.1", "1.0"):
        raise Refused(400, "the version of HTTP is not 1.1 or 1.0")
    if method == b"CONNECT":
        raise Refused(400, "this is no proxy")
    hosts: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            if not _LENGTH.fullmatch(value):
                raise Refused(400, "Content-Length is not a plain number")
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or version == "1.0":
                raise Refused(400, "Transfer-Encoding is not exactly chunked, or is there in HTTP/1.0")
        elif name in (b"upgrade", b"http2-settings"):
            raise Refused(400, "this server speaks HTTP/1.1 alone; Upgrade is refused")
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise Refused(400, "there is not exactly one Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise Refused(400, "Host is not a name or an address, with a port or without")
    return hosts


def path_and_query(target: bytes, hosts: list[bytes]) -> bytes:
    """Return the target in the form `/path?query`.

    Raises:
        Refused: it is in no other form than that of a whole URL of this very host, or has characters that none may.
    """
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if not absolute or not hosts or absolute[1].lower() != hosts[0].lower():
            raise Refused(400, "the target is neither a path nor a URL of this host")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]  # a missing path is the root
    if not _TARGET.fullmatch(target):
        raise Refused(400, "the target has characters that no path or query may have")
    return target
