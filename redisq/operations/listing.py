"""Listing a queue's messages page by page, as a flow. Pure.

Whoever may look any message up by its id, and may know how many there are, may list them: ops `get` and `stats`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from redisq import store
from redisq.errors import InvalidArgument
from redisq.model.listing import Listed, Page, Which
from redisq.operations import options
from redisq.operations.batches import in_portion
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow
from redisq.store.call import BATCH, Call
from redisq.store.keys import PartitionKeys

#: what can be listed -> the structure it is read from
LISTS: Mapping[Which, str] = {
    "ready": "stream",
    "scheduled": "scheduled",
    "in_progress": "leases",
    "dead": "dead",
    "finished": "finished",
}
_IN_ORDER = re.compile(r"\d{1,15}")
_IN_STREAM = re.compile(r"\d{1,15}-\d{1,15}")
_FORMS = {"stream": re.compile(rf"{_IN_ORDER.pattern}|{_IN_STREAM.pattern}"), "finished": _IN_STREAM}
_SHORT = 4096  # bytes of a body, or a record, that a list still shows


def find(caller: Caller, queue: str, which: Which, token: str | None, cursor: str | None, limit: int) -> Flow[Page]:
    """List a page of messages: what is next first, of what has ended the last."""
    where = caller.keys_of(queue)
    for op in ("stats", "get"):
        caller.authorise(op, queue, token)
    if not isinstance(which, str) or which not in LISTS:
        raise InvalidArgument(f"which= takes one of {', '.join(LISTS)}")
    options.whole_of("limit=", limit, 1, BATCH)
    structure = LISTS[which]
    form = _FORMS.get(structure, _IN_ORDER)
    if cursor is not None and not (isinstance(cursor, str) and form.fullmatch(cursor)):
        raise InvalidArgument("cursor= takes the `next` of the page before")
    return (yield from _read(caller, where, structure, cursor or "0", limit))


def _read(caller: Caller, where: PartitionKeys, structure: str, cursor: str, limit: int) -> Flow[Page]:
    """Read a page in one call, or in several where a reply with all of it does not get through."""
    portion, found = caller.portion("page", BATCH), list[Listed]()

    def read(most: int) -> Call[Page]:
        return store.listing.page(where, structure, cursor, most, _SHORT)

    while True:
        wanted = limit - len(found)
        asked, part = yield from in_portion(portion, wanted, read)
        found += part.messages
        if part.next is None or asked == wanted:
            return Page(found, part.next)
        cursor = part.next
