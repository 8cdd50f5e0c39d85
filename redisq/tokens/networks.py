"""Addresses that a token is bound to: IPv4 and IPv6, single ones and networks. Pure.

An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.1`, as servers that listen on both see it) is the IPv4
address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

_NETWORK = re.compile(r"[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?")  # no netmask, no zone
_MAPPED = 96  # bits before the IPv4 address in a mapped one


def network(text: object) -> Network:
    """Read an address, or a network in CIDR form, whose bits beyond its length are 0.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(text, str) or not _NETWORK.fullmatch(text):
        raise ValueError("no address, nor a network like 10.0.0.0/8 or 2001:db8::/32")
    found = ip_network(text)
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is None or found.prefixlen < _MAPPED:
        return found
    return IPv4Network((mapped, found.prefixlen - _MAPPED))


def is_network(text: object) -> bool:
    """Return whether `network` reads this."""
    try:
        network(text)
    except ValueError:
        return False
    return True


def intersect(ours: Sequence[Network], theirs: Sequence[Network]) -> tuple[Network, ...]:
    """Return the networks of exactly the addresses in both: of two that meet, one is inside the other."""
    both = [one for one in ours if _is_inside(one, theirs)] + [one for one in theirs if _is_inside(one, ours)]
    return tuple(dict.fromkeys(both))


def _is_inside(one: Network, others: Sequence[Network]) -> bool:
    return any(one.version == other.version and one.subnet_of(other) for other in others)  # type: ignore[arg-type]


def contains(networks: Sequence[Network], text: str) -> bool:
    """Return whether an address is in one of the networks. What is no address, such as a socket's path, is in none."""
    try:
        found: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    return any(found in one for one in networks)
