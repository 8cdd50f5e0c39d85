"""Looking messages up: one or many, also when they have finished. Pure.

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


class Waiting:
    """A wait for many messages of a queue: each is told once, when it has finished or `timeout` seconds have passed.

    Raises:
        InvalidArgument: `ids` is no list of ids, or `timeout` not one of seconds.
    """

    def __init__(
        self, caller: Caller, queue: str, ids: Iterable[str | uuid.UUID], timeout: float, token: str | None
    ) -> None:
        self._where = caller.keys_of(queue)
        caller.authorise("get", queue, token)
        self._end = time.monotonic() + options.seconds_of("timeout=", timeout)
        self._caller, self._token = caller, token
        self._ids = list(ids_of(ids))
        names = list(map(known, self._ids))
        self._left = dict.fromkeys(name for name in names if name is not None)
        self._refused: dict[bytes | None, RedisQError] = {None: MessageNotFound()}
        self._names = names
        self._to_look_at: list[list[bytes]] = []
        self._began, self._took, self._pause = time.monotonic(), 0.0, 0.0  # seconds; what the last looks took in all
        self._ended: bytes | None = None
        self._over = False

    def next(self) -> Flow[list[Message]]:
        """Return some that have finished, in the order of the ids, or when the time is over have not; none after all.

        Raises:
            BatchError: at the end, for those that were not there, or were damaged.
        """
        waits, queue = self._caller.waits, self._where.queue
        waits[queue] += 1
        try:
            while self._to_look_at or self._left:
                if not self._to_look_at:
                    yield from self._until_news()
                    self._to_look_at = [*chunks(self._left, LOOKED_UP)][::-1]
                if found := (yield from self._look(self._to_look_at.pop())):
                    return found
        finally:
            waits[queue] -= 1
            if not waits[queue]:
                del waits[queue]
        errors = {number: self._refused[name] for number, name in enumerate(self._names) if name in self._refused}
        if errors:
            raise BatchError(list(map(str, self._ids)), errors)
        return []

    def _until_news(self) -> Flow[None]:
        """Pause until any message has ended since the last looks began, or the time is over."""
        while True:
            if self._pause:
                left = self._end - time.monotonic()
                yield Pause(self._pause, on_the_beat=True) if self._pause * 2 < left else Pause(min(self._pause, left))
                self._caller.authorise("get", self._where.queue, self._token)
            before, self._ended = self._ended, (yield store.messages.ended(self._where))
            self._over = time.monotonic() >= self._end
            longer = min(max(self._pause * 1.5, _FIRST_LOOK), _LONGEST_LOOK)
            if longer == _LONGEST_LOOK:
                longer = _pause_of(len(self._caller.waits), time.monotonic() - self._began)
            self._pause, self._took = max(longer, self._took), 0.0  # to look takes half of the time at most
            if self._over or self._ended is None or self._ended != before:
                return

    def _look(self, names: Sequence[bytes]) -> Flow[list[Message]]:
        began = time.monotonic()
        answers = yield from _look_up(self._caller, self._where, names)
        self._took += time.monotonic() - began
        found: list[Message] = []
        for name, outcome in zip(names, answers, strict=True):
            if isinstance(outcome, RedisQError):
                self._refused[name] = outcome
            elif outcome.finished or self._over:
                found.append(outcome)
            else:
                continue
            del self._left[name]
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
