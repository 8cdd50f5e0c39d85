"""What a call of `RedisQ` that queues one small message costs in Python beside the socket, part by part."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable

from redisq import Credentials, RedisQ, Settings, store
from redisq.body import codec
from redisq.link.packing import pack
from redisq.model.queue import MAX_BYTES_CEILING
from redisq.operations import options
from redisq.store.messages import NewMessage
from tests.benchmarks.adapters import MESSAGE
from tests.benchmarks.figures import CALL, Samples
from tests.benchmarks.peers import THREADS
from tests.benchmarks.server import Server

_CALLS = 20_000


def measure(server: Server, samples: Samples, rounds: int) -> None:
    """Time each part by itself, as often as there are rounds."""
    application = Credentials.generate("bench")
    settings = Settings(url=server.url, app_id=application.app, app_secret=application.secret())
    with RedisQ(settings=settings) as mq:
        mq.queue_message("bench", MESSAGE)  # so that its token is signed, and the queue known
        for _ in range(rounds):
            for part, run in zip(CALL, _parts(mq), strict=True):
                samples.add(part, THREADS, timeit.timeit(run, number=_CALLS) / _CALLS)


def _parts(mq: RedisQ) -> list[Callable[[], object]]:
    caller = mq._caller
    where = caller.keys_of("bench")
    body = codec.encode_request(MESSAGE, MAX_BYTES_CEILING)
    id, *_ = options.checked({}, caller.application, "bench", time.time())
    message = NewMessage(id, codec.digest(body), body)
    call = store.messages.put(where, caller.limits, message)
    command = (b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)
    return [
        lambda: caller.authorise("queue", "bench", None),
        lambda: options.checked({}, caller.application, "bench", time.time()),
        lambda: codec.digest(codec.encode_request(MESSAGE, MAX_BYTES_CEILING)),
        lambda: store.messages.put(where, caller.limits, message),
        lambda: pack(command),
    ]
