"""`info`: the server's time and what it tells of itself."""

from __future__ import annotations

from redisq import store
from redisq.store.keys import queues_key
from tests.scripts.conftest import Orders


def test_time_and_configuration(orders_real: Orders) -> None:
    before = orders_real.now_ms()
    time, told = orders_real.run(store.audit.info(queues_key(orders_real.raw.settings.namespace)))
    assert before <= time * 1000 <= orders_real.now_ms()
    assert "redis_version:" in told
    assert "maxmemory_policy:" in told
    assert "aof_enabled:" in told
