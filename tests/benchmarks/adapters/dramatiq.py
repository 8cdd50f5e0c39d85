"""dramatiq: threads. Its results are an option that its documentation leaves off."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.benchmarks.adapters import URL
from tests.benchmarks.handled import handled

dramatiq.set_broker(RedisBroker(url=URL))


@dramatiq.actor
def handle(message):
    handled(message)
    return {"ok": True}


def put(message):
    handle.send(message)
