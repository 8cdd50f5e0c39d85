"""Which names the gateway answers to where it asks for no token. Pure.

A site may let its own name point to the gateway's address: to a browser its pages are then a part of the gateway, and
read what it answers (DNS rebinding). They give themselves away by the name, which the browser sends as Host. A page
cannot choose that; but what a proxy passes on as X-Forwarded-Host it can, so that must fit, too, and makes up for
nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from redisq.errors import Forbidden
from redisq.gateway.requests.fields import values

if TYPE_CHECKING:
    from starlette.types import Scope

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+?)\.?)(?::[0-9]*)?")
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,252}[a-z0-9_])?")
_REFUSED = (
    "Without a token the gateway answers to addresses, to localhost, and to the names in REDISQ_HTTP_HOSTS, which this "
    "one is not among. Show a token, or have the name added there."
)


def name_of(host: str) -> str:
    """Return the name or the address of a host, which may have a port: in lower case, without a final dot, or ""."""
    found = _HOST.fullmatch(host.lower())
    return (found[1] or found[2]) if found else ""


def names(texts: Sequence[str]) -> tuple[str, ...]:
    """Read names as somebody wrote them down: in any case, with a port or without.

    Raises:
        ValueError: one is no name, nor an address.
    """
    return tuple(_written(text) for text in texts)


def _written(text: str) -> str:
    try:
        name = name_of(text if text.isascii() else text.encode("idna").decode())
    except ValueError:
        name = ""
    if _address(text) is None and _address(name) is None and not _NAME.fullmatch(name):
        raise ValueError(f"{text[:100]!r} is no name of a host, like mq.example.com")
    return name or text


def is_known(host: str, known: Collection[str]) -> bool:
    """Return whether a host, with a port or without, is an address, this machine, or one of the `known` names."""
    name = name_of(host)
    address = _address(name)
    if address is not None:
        return not address.is_unspecified  # which leads here by chance, and is nobody's
    return name in known or name == "localhost" or name.endswith(".localhost")


def all_known(scope: Scope, known: Collection[str]) -> bool:
    """Return whether a request names no other hosts than those."""
    hosts = [value.decode("latin-1") for value in values(scope, b"host")]
    for value in values(scope, b"x-forwarded-host"):
        hosts += [part.strip() for part in value.decode("latin-1").split(",") if part.strip()]
    return all(is_known(host, known) for host in hosts)


def check(scope: Scope, known: Collection[str]) -> None:
    """Return only if a request names no other hosts than those.

    Raises:
        Forbidden: it does.
    """
    if not all_known(scope, known):
        raise Forbidden(_REFUSED)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
