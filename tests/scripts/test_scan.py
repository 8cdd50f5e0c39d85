"""`scan`: names of keys, page by page."""

from __future__ import annotations

from redisq import store
from redisq.store.keys import keys_pattern, queues_key
from tests.scripts.conftest import Orders


def test_pages_give_the_keys_of_the_namespace(orders: Orders) -> None:
    namespace = orders.raw.settings.namespace
    orders.put("a")
    mine = {f"{namespace}:1:key-{n}" for n in range(1200)}
    orders.redis.mset({**dict.fromkeys(mine, 1), f"{namespace}x:1:key": 1, f"{namespace}:2:key": 1})
    met, cursor, pages = set[str](), b"0", 0
    while pages == 0 or cursor != b"0":
        cursor, names = orders.run(store.audit.scan(queues_key(namespace), keys_pattern(namespace), cursor))
        met.update(names)
        pages += 1
    assert met - mine == {f"{namespace}:1:{{orders}}:{name}" for name in ("stream", "messages", "bell", "counters")}
    assert mine <= met
    assert pages > 1
    orders.redis.delete(*mine, f"{namespace}x:1:key", f"{namespace}:2:key")


def test_a_name_that_is_no_text(orders: Orders) -> None:
    namespace = orders.raw.settings.namespace
    orders.redis.set(f"{namespace}:1:".encode() + b"\xff", 1)
    names = orders.run(store.audit.scan(queues_key(namespace), keys_pattern(namespace), b"0"))[1]
    assert names in ([f"{namespace}:1:\\xff"], [])  # a page may hold none: the server may have other keys
