"""Looking messages up: one, also when it has finished, or many. Pure.

Nobody is told when a message ends, so who waits looks again and again, ever more rarely. What all looks of a process
cost Redis is bounded: all who wait for messages of one queue ask together whether any has ended meanwhile, in one call,
and look at their own only then; and where they are of many queues each is asked about more rarely, the longer the wait
has lasted: that is 50 commands a second for up to 120 queues.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence

from redisq import store
from redisq.errors import BatchError, MessageNotFound, RedisQError
from redisq.model.message import Message
from redisq.operations import options
from redisq.operations.batches import chunks, ids_of, in_portion, known
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow, Pause, settled
from redisq.store import keys
from redisq.store.call import Call
from redisq.store.keys import PartitionKeys
from redisq.store.messages import LOOKED_UP
from redisq.store.reply import Outcome

_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.25  # seconds between looks
_FEW_QUEUES = 6  # with more than these the looks get rarer
#: Seconds between looks at one queue where many are waited for: few values, so that looks fall together. Beyond
#: `_SOON`, never more than was waited already.
_PAUSES = (_LONGEST_LOOK, 0.5, 1.0, 2.5, 5.0)
_SOON = 1.0


def get_message(
    caller: Caller, queue: str, id: str | uuid.UUID, token: str | None, wait: float | None
) -> Flow[Message]:
    """Look one message up; with `wait`, when it has finished or that many seconds have passed."""
    where = caller.keys_of(queue)
    caller.authorise("get", queue, token)
    name, seconds = keys.known_id(id), 0.0 if wait is None else options.seconds_of("wait=", wait)
    end = time.monotonic() + seconds
    if not seconds:
        return (yield from _look(where, name))
    caller.waits[queue] += 1
    try:
        return (yield from _wait(caller, queue, name, token, end))
    finally:
        caller.waits[queue] -= 1
        if not caller.waits[queue]:
            del caller.waits[queue]


def _look(where: PartitionKeys, name: bytes) -> Flow[Message]:
    (outcome,) = yield store.messages.get(where, [name])
    message: Message = settled(outcome)
    return message


def _wait(caller: Caller, queue: str, name: bytes, token: str | None, end: float) -> Flow[Message]:
    where, pause, began = caller.keys_of(queue), _FIRST_LOOK, time.monotonic()
    ended: bytes | None = None
    while True:
        message = yield from _look(where, name)
        while True:
            left = end - time.monotonic()
            if message.finished or left <= 0:
                return message
            yield Pause(pause, on_the_beat=True) if pause * 2 < left else Pause(min(pause, left))
            caller.authorise("get", queue, token)
            if pause < _LONGEST_LOOK:  # most waits are short
                pause = min(pause * 1.5, _LONGEST_LOOK)
                if pause == _LONGEST_LOOK:
                    ended = yield store.messages.ended(
                        where
                    )  # before the look that follows: what ends after it shows later
                break
            pause = _pause_of(len(caller.waits), time.monotonic() - began)
            before, ended = ended, (yield store.messages.ended(where))
            if ended is None or ended != before or time.monotonic() >= end:
                break


def _pause_of(queues: int, waited: float) -> float:
    """Return how long to pause, given how many queues are waited for, and for how long this wait has lasted."""
    enough = _LONGEST_LOOK * queues / _FEW_QUEUES
    pause = next((pause for pause in _PAUSES if pause >= enough), _PAUSES[-1])
    return max(other for other in _PAUSES if other <= min(pause, max(_SOON, waited)))


def get_messages(
    caller: Caller, queue: str, ids: Iterable[str | uuid.UUID], token: str | None
) -> Flow[list[Message | None]]:
    """Look many messages up; the answer has None for each that is not there."""
    where = caller.keys_of(queue)
    caller.authorise("get", queue, token)
    found: list[Message | None] = []
    errors: dict[int, RedisQError] = {}
    texts: list[str] = []
    for chunk in chunks(ids_of(ids), LOOKED_UP):
        names = [known(id) for id in chunk]
        asked = [name for name in names if name is not None]
        answers = iter((yield from _look_up(caller, where, asked)))
        for id, name in zip(chunk, names, strict=True):
            outcome = next(answers) if name is not None else MessageNotFound()
            if isinstance(outcome, RedisQError) and not isinstance(outcome, MessageNotFound):
                errors[len(found)] = outcome
            found.append(None if isinstance(outcome, RedisQError) else outcome)
            texts.append(str(id))
    if errors:
        raise BatchError(texts, errors)
    return found


def _look_up(caller: Caller, where: PartitionKeys, names: Sequence[bytes]) -> Flow[list[Outcome[Message]]]:
    """Look messages up in one call, or in several where a reply with all of them does not get through."""
    portion, found = caller.portion("get", LOOKED_UP), list[Outcome[Message]]()

    def read(most: int) -> Call[list[Outcome[Message]]]:
        return store.messages.get(where, names[len(found) : len(found) + most])

    while left := len(names) - len(found):
        _, answers = yield from in_portion(portion, left, read)
        found += answers
    return found
