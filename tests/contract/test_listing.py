"""`list_messages`: what waits, runs, is dead, has completed, page by page."""

from __future__ import annotations

import time
from typing import Any

import pytest

from redisq import Forbidden, tokens
from tests.conftest import CREDENTIALS

QUEUE = "orders"


def test_page_by_page(mq: Any) -> None:
    ids = mq.queue_messages(QUEUE, [{"number": number} for number in range(5)])
    first = mq.list_messages(QUEUE, "ready", limit=2)
    second = mq.list_messages(QUEUE, "ready", limit=2, cursor=first.next)
    last = mq.list_messages(QUEUE, "ready", limit=2, cursor=second.next)
    listed = [message for page in (first, second, last) for message in page.messages]
    assert [message.id for message in listed] == ids
    assert [message.request for message in listed] == [{"number": number} for number in range(5)]
    assert last.next is None


@pytest.mark.parametrize("which", ["ready", "scheduled", "in_progress", "dead", "finished"])
def test_a_queue_that_never_was_has_empty_lists_and_stays_unknown(mq: Any, which: str) -> None:
    page = mq.list_messages(QUEUE, which)
    assert (page.messages, page.next) == ([], None)
    assert mq.queues() == []


@pytest.mark.parametrize(
    ("which", "how"),
    [
        ("stream", {}),
        ("ready", {"limit": 0}),
        ("ready", {"limit": 501}),
        ("ready", {"limit": True}),
        ("ready", {"cursor": "7-"}),
        ("finished", {"cursor": "7"}),
        ("ready", {"cursor": "0-0)"}),
        ("dead", {"cursor": "1-1"}),
        ("dead", {"cursor": "-1"}),
        ("dead", {"cursor": 5}),
    ],
)
def test_what_is_no_list_cursor_or_limit_is_refused(mq: Any, which: str, how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="takes"):
        mq.list_messages(QUEUE, which, **how)


@pytest.mark.parametrize("ops", [["get"], ["stats"], ["admin", "queue", "delete", "work"]])
def test_it_takes_get_and_stats(mq: Any, ops: list[str]) -> None:
    def token(allowed: list[str]) -> str:
        audience = mq.settings.token_audience
        return tokens.sign(CREDENTIALS, audience=audience, ops=allowed, queues=[QUEUE], now=time.time())

    assert mq.list_messages(QUEUE, "ready", token(["get", "stats"])).messages == []
    with pytest.raises(Forbidden):
        mq.list_messages(QUEUE, "ready", token(ops))
