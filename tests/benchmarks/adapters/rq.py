"""rq: its worker that does not fork, which is the fast one; one at a time."""

import redis
from rq import Queue

from tests.benchmarks.adapters import MESSAGE, URL, batches
from tests.benchmarks.handled import handled

queue = Queue("bench", connection=redis.Redis.from_url(URL))


def handle(message):
    handled(message)
    return {"ok": True}


def put(message):
    queue.enqueue(handle, message)


def bulk(count):
    for size in batches(count):
        queue.enqueue_many([Queue.prepare_data(handle, (MESSAGE,)) for _ in range(size)])
