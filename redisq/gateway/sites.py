"""Which site's page sends a request, by what its browser tells of it. Pure.

It matters where no token is shown. Whoever holds a token has to attach it, and no other site's page can; but what
nobody needs a token for, a page of any site could do through the browser of somebody who reaches the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Tell whether a page of another site sends a request. What is no browser does not say, and is not foreign."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin"):
        return True
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


def changes_from_afar(method: str, headers: Mapping[str, str], trusted: Sequence[str]) -> bool:
    """Tell whether a page of another site, none of the `trusted` origins, would change something by a request."""
    if method in _READING or not is_foreign(headers):
        return False
    return "*" not in trusted and headers.get("origin") not in trusted
