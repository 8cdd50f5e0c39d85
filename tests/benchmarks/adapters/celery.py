"""celery: threads."""

from celery import Celery

from tests.benchmarks.adapters import URL
from tests.benchmarks.handled import handled

app = Celery("bench", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=100, broker_connection_retry_on_startup=True)


@app.task(name="handle")
def handle(message):
    handled(message)
    return {"ok": True}


def put(message):
    handle.delay(message)
