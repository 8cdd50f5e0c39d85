"""huey: threads."""

from huey import RedisHuey

from tests.benchmarks.adapters import URL
from tests.benchmarks.handled import handled

huey = RedisHuey("bench", url=URL, results=True)


@huey.task()
def handle(message):
    handled(message)
    return {"ok": True}


def put(message):
    handle(message)
