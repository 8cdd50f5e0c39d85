"""Tests of handlers and of what queues messages: without a server, in virtual time. Only tests import it.

    assert testing.deliver(double, 4, attempt=2).result == 8  # one handler, without any Redis
    with testing.queue() as mq:                               # clients and workers made or run inside use it
        id = mq.queue_message("double", 5, delay=3600)
        testing.run_until_idle(worker)                        # pulls the clock forward
        assert mq.get_message("double", id).result == 10

Imports: errors, urls, runtime, model, embedded, body, store, settings, link, operations, client, async_client, worker.
What it hands on is loaded on first use: pytest imports the plugin in here in every run, whatever it tests.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redisq.testing.deliveries import About, Outcome, deliver, deliver_async, delivery
    from redisq.testing.idle import run_until_idle, run_until_idle_async
    from redisq.testing.queues import abandon, clock, queue
    from redisq.testing.repeats import redelivered, redelivered_async

_HOME = {
    "About": "deliveries",
    "Outcome": "deliveries",
    "deliver": "deliveries",
    "deliver_async": "deliveries",
    "delivery": "deliveries",
    "redelivered": "repeats",
    "redelivered_async": "repeats",
    "abandon": "queues",
    "clock": "queues",
    "queue": "queues",
    "run_until_idle": "idle",
    "run_until_idle_async": "idle",
}

__all__ = [
    "About",
    "Outcome",
    "abandon",
    "clock",
    "deliver",
    "deliver_async",
    "delivery",
    "queue",
    "redelivered",
    "redelivered_async",
    "run_until_idle",
    "run_until_idle_async",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
