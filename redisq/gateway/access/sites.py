"""Which site's page sends a request, by what its browser tells of it. Pure.

It matters where no token is shown. Whoever holds a token has to attach it, and no other site's page can; but what
nobody needs a token for, a page of any site could do through the browser of somebody who reaches the gateway.

A browser that sends Sec-Fetch-Site compares the addresses that it sees itself, and no page can write that header. An
older one, or one that speaks plain HTTP to another machine, sends Origin alone; then Host has to tell the same, which
it does only where the proxies in between pass it on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Methods that change nothing.
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": ":80", "https": ":443"}
_SHOWN = 100  # characters of a header in a text


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Return whether a page of another site sends a request. What is no browser does not say, and is not foreign."""
    return why_foreign(headers) is not None


def why_foreign(headers: Mapping[str, str]) -> str | None:
    """Return by what a request shows itself as one of another site's page, None if it does not."""
    site, origin, host = headers.get("sec-fetch-site"), headers.get("origin"), headers.get("host", "")
    if site is not None:
        return None if site == "same-origin" else f"The browser says so (Sec-Fetch-Site: {site[:_SHOWN]})."
    if origin is None or is_at(origin, host):
        return None
    return (
        f"The browser sends it from {origin[:_SHOWN]} (Origin), and the gateway was asked as {host[:_SHOWN]} (Host). "
        "If these are one place, a proxy in between changes Host: let it pass on the one that it gets, in nginx by "
        "proxy_set_header Host $http_host."
    )


def is_at(origin: str, host: str) -> bool:
    """Return whether an origin is a host, whose port may be left out where it is the usual one."""
    scheme, _, place = origin.lower().partition("://")
    usual = _PORTS.get(scheme, "")
    return bool(place) and place.removesuffix(usual) == host.lower().removesuffix(usual)


def changes_from_afar(method: str, headers: Mapping[str, str], trusted: Sequence[str]) -> bool:
    """Return whether a page of another site, none of the `trusted` origins, would change something by a request."""
    if method in READING or not is_foreign(headers):
        return False
    return "*" not in trusted and headers.get("origin") not in trusted
