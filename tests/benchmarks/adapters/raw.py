"""The floor: redis-py's EVALSHA doing the least a queue can, an entry in a stream and a field in a hash. No queue."""

import uuid
from contextlib import suppress

import msgpack
import redis

from tests.benchmarks.adapters import MESSAGE, URL, batches
from tests.benchmarks.handled import handled

_STREAM, _BODIES, _GROUP = "raw:{q}:stream", "raw:{q}:bodies", "workers"
_AT_ONCE = 100
_PUT = """
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[i])
end"""
_DONE = """
redis.call('XACK', KEYS[1], KEYS[2], unpack(ARGV))
redis.call('XDEL', KEYS[1], unpack(ARGV))"""

client = redis.Redis.from_url(URL, protocol=2)


def setup():
    global put_sha
    put_sha = client.script_load(_PUT)
    with suppress(redis.ResponseError):  # BUSYGROUP: the worker was first, or the queue's other side
        client.xgroup_create(_STREAM, _GROUP, id="0", mkstream=True)


def put(message):
    client.evalsha(put_sha, 2, _STREAM, _BODIES, uuid.uuid4().bytes, msgpack.packb(message))


def bulk(count):
    for size in batches(count):
        pairs = [part for _ in range(size) for part in (uuid.uuid4().bytes, msgpack.packb(MESSAGE))]
        client.evalsha(put_sha, 2, _STREAM, _BODIES, *pairs)


def work():
    done_sha = client.script_load(_DONE)
    while True:
        reply = client.xreadgroup(_GROUP, "worker", {_STREAM: ">"}, count=_AT_ONCE, block=2_000)
        for _, entries in reply:
            bodies = client.hmget(_BODIES, [fields[b"id"] for _, fields in entries])
            for body in bodies:
                handled(msgpack.unpackb(body))
            client.evalsha(done_sha, 2, _STREAM, _GROUP, *(entry for entry, _ in entries))


if __name__ == "__main__":
    setup()
    work()
