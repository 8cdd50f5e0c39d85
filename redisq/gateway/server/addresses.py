"""Whose request it is: the address of a client, also behind proxies that are trusted to tell it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: An IPv6 address has 39 characters, and a scope at most, of which Python takes any text: a line of the log could hide.
_WRITTEN = re.compile(r"[0-9A-Fa-f.:]{1,45}(%[A-Za-z0-9._-]{1,16})?")
_HOPS = 32  # that are looked at, from the right


def networks(text: str) -> tuple[Network, ...]:
    """Read networks or single addresses, with commas between.

    Raises:
        ValueError: one is invalid, or has bits set beyond its prefix.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


@lru_cache(maxsize=4096)
def parse(text: str) -> Address | None:
    """Read an address, None when it is invalid; one of IPv4 in the clothes of IPv6 is one of IPv4."""
    if not _WRITTEN.fullmatch(text):
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def plain(text: str) -> str:
    """Return the one way to write an address; anything else, as a path of a socket, stays as it is."""
    return str(parse(text) or text)


@lru_cache(maxsize=4096)
def neighbourhood(text: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one, as one customer has a whole one."""
    address = parse(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address or text)


def trusted(address: Address | None, proxies: Sequence[Network]) -> bool:
    """Return whether what this address says of others is to be believed."""
    return address is not None and any(address in network for network in proxies)


def client_of(peer: str, forwarded: Sequence[bytes], proxies: Sequence[Network]) -> str:
    """Return the client's address: the rightmost one that no trusted proxy has, from X-Forwarded-For of trusted peers.

    What stands further left was written by whoever it was, and counts for nothing. A hop that is no address is not
    believed: then it is the proxy that reported it.
    """
    seen = parse(peer)
    if not forwarded or not trusted(seen, proxies):
        return plain(peer)
    hops = b",".join(forwarded).decode("latin-1").rsplit(",", _HOPS)[-_HOPS:]
    for hop in reversed(hops):
        address = parse(_without_port(hop.strip()))
        if address is None:
            break
        seen = address
        if not trusted(address, proxies):
            break
    return str(seen)


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
