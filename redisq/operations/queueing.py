"""Queueing: one message, or many as they come, some in each call. Pure.

Many are taken from any iterable, a chunk at a time, so that memory is bounded; and so are the ids that go with them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from operator import length_hint
from typing import Any

from redisq import store
from redisq.body import codec
from redisq.body.schemas import Schema
from redisq.errors import BatchError, Indeterminate, InvalidMessage, MessageConflict, RedisQError, SchemaViolation
from redisq.model.queue import MAX_BYTES_CEILING
from redisq.operations import options
from redisq.operations.batches import not_sent
from redisq.operations.caller import Caller
from redisq.operations.flow import Aside, Begin, Finish, Flow, settled
from redisq.operations.options import Item, Options, Terms
from redisq.store import keys
from redisq.store.messages import NewMessage, Plain
from redisq.store.reply import Outcome

_CHUNK = 250  # messages in one call: while the server takes one chunk the next is made
_CHUNK_BYTES = 1024 * 1024  # of bodies in one call
_SENT = "What was read before is in the queue."
_NO_TERMS = 0.0, None, 0  # neither delay nor life nor priority


def queue_message(
    caller: Caller, queue: str, message: object, token: str | None, chosen: Options
) -> Flow[tuple[str, bool]]:
    """Queue one message; the answer is its id, and whether it is new: False for a repeat.

    When the reply to a first sending was lost, and the call sent again, that counts as a repeat.
    """
    where = caller.keys_of(queue)
    caller.authorise("queue", queue, token)
    id, delay, expires_in, priority, headers = options.checked(chosen, caller.application, queue, time.time())
    body = codec.encode_request(message, MAX_BYTES_CEILING, headers)
    new, name = NewMessage(id, codec.digest(body), body, delay, expires_in, priority), keys.id_text(id)
    try:
        schema = yield from caller.prepare(queue, len(body))
        if schema is not None and schema.is_quick(len(body)):
            _check(schema, body)
        elif schema is not None:
            yield Aside(partial(_check, schema, body))
        (outcome,) = yield store.messages.put(where, caller.limits, new)
        return name, settled(outcome)
    except Indeterminate as error:
        raise Indeterminate(str(error), id=name) from error
    except MessageConflict:
        if chosen.get("idempotency_key") is None:
            raise
        raise MessageConflict(
            "This idempotency_key was used in this queue before, with another body. A new body takes a new key."
        ) from None


def _check(schema: Schema, body: bytes) -> None:
    """Check what was encoded: the message itself may have been changed since."""
    request, _ = codec.decode_request(body)
    schema.check(request, len(body))


def queue_messages(
    caller: Caller,
    queue: str,
    messages: Iterable[object],
    token: str | None,
    ids: Iterable[str | uuid.UUID] | None,
) -> Flow[list[str]]:
    """Queue many messages, some in each call; the answer is their ids, in order."""
    where = caller.keys_of(queue)
    caller.authorise("queue", queue, token)
    messages = options.several("messages", messages, InvalidMessage)
    given = None if ids is None else _given(ids, messages)
    made = _Made(messages, given, lambda chosen: options.checked(chosen, caller.application, queue, time.time()))
    given_up: RedisQError | None = None
    before: tuple[_Chunk, Any] | None = None  # sent, and being answered while the next one is made
    try:
        for number, chunk in enumerate(made.chunks()):
            schema: Schema | None = None
            try:
                schema = yield from caller.prepare(queue, min(map(len, chunk.bodies)))
            except RedisQError as error:
                if number == 0:
                    raise
                given_up = given_up or not_sent(error)
            if schema is None or schema.is_quick(chunk.size):
                fitting = made.fitting(chunk, schema)
            else:
                fitting = yield Aside(partial(made.fitting, chunk, schema))
            sent, before = before, None
            given_up = given_up or (yield from made.settle(sent))  # before the next is sent, which keeps their order
            if given_up is not None:
                made.refuse(fitting, given_up)
            elif fitting.numbers:
                call = store.messages.queue(where, caller.limits, fitting.messages())
                before = fitting, (yield Begin(call))
    except Exception:  # the iterable's own: what came before is in the queue
        yield from made.settle(before)
        raise
    yield from made.settle(before)
    texts = [keys.id_text(name) for name in made.names]
    if made.errors:
        raise BatchError(texts, dict(sorted(made.errors.items())))
    return texts


def _given(ids: Iterable[str | uuid.UUID], messages: Iterable[object]) -> Iterator[bytes]:
    """Return ids that go with messages. Of a list each is checked before anything is sent, else as it comes.

    Raises:
        InvalidMessage: there is no list of ids, one of them is none, or there are not as many as messages.
    """
    if isinstance(ids, Set):
        raise InvalidMessage("ids= takes a list, in the order of the messages: a set has none")
    ids = options.several("ids", ids, InvalidMessage)
    if not isinstance(ids, Collection):
        return map(keys.given_id, ids)
    known = [keys.given_id(id) for id in ids]
    if isinstance(messages, Collection) and len(known) != len(messages):
        raise InvalidMessage(f"ids= has {len(known)} ids for {len(messages)} messages: give one for each.")
    return iter(known)


@dataclass(slots=True)
class _Chunk:
    """What fits into one call: messages' numbers, ids and encoded bodies.

    A tuple of each message is made only when it is sent, and is gone with the next: 10,000 of them that are kept for a
    while have the garbage collector go through all that there is.
    """

    numbers: list[int] = field(default_factory=list)
    ids: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    terms: dict[int, tuple[float, float | None, int]] = field(
        default_factory=dict
    )  # of those that have options of their own
    size: int = 0  # bytes of the bodies

    def take(self, number: int, id: bytes, body: bytes) -> None:
        self.numbers.append(number)
        self.ids.append(id)
        self.bodies.append(body)
        self.size += len(body)

    def messages(self) -> Iterator[Plain]:
        digests = map(codec.digest, self.bodies)
        if not self.terms:
            return zip(self.ids, digests, self.bodies, *map(repeat, _NO_TERMS), strict=False)
        each = zip(self.numbers, self.ids, digests, self.bodies, strict=True)
        return ((id, digest, body, *self.terms.get(number, _NO_TERMS)) for number, id, digest, body in each)


class _Made:
    """Messages made of requests as these come, with the ids and errors of all so far.

    `given` are ids that the caller has chosen; `check` reads the options of an item.
    """

    def __init__(
        self, requests: Iterable[object], given: Iterator[bytes] | None, check: Callable[[Options], Terms]
    ) -> None:
        self._requests = requests
        self._given = given
        self._check = check
        self.names: list[bytes] = []
        self.errors: dict[int, RedisQError] = {}

    def chunks(self) -> Iterator[_Chunk]:
        """Return what fits into one call, each message with its number."""
        chunk = _Chunk()
        ids = _new_ids() if self._given is None else self._given
        for number, request in enumerate(self._requests):
            id, terms, headers = next(ids, None), None, None
            if id is None:
                raise InvalidMessage(f"ids= ended after {number} ids, and there are more messages. {_SENT}")
            self.names.append(id)
            try:
                if isinstance(request, Item):
                    terms = self._of_item(request, id)
                    request, id, headers = request.request, terms.id, terms.headers
                    self.names[-1] = id
                body = codec.encode_request(request, MAX_BYTES_CEILING, headers)
            except InvalidMessage as error:
                self.errors[number] = error
                continue
            held = len(chunk.numbers)
            if held and (held == _CHUNK or chunk.size + len(body) > _CHUNK_BYTES):
                yield chunk
                chunk = _Chunk()
            chunk.take(number, id, body)
            if terms is not None:
                chunk.terms[number] = terms[1:4]
        if chunk.numbers:
            yield chunk
        if left := length_hint(ids):
            raise InvalidMessage(f"ids= has {left} ids more than there are messages. {_SENT}")

    def _of_item(self, item: Item, id: bytes) -> Terms:
        """Read the options of an item, which may choose its id itself."""
        terms = self._check(item.options)
        if item.options.get("id") is None and item.options.get("idempotency_key") is None:
            return terms._replace(id=id)
        if self._given is not None and terms.id != id:
            raise InvalidMessage("ids= names another id than the Item does by id= or idempotency_key=.")
        return terms

    def fitting(self, chunk: _Chunk, schema: Schema | None) -> _Chunk:
        """Return what of a chunk fits the queue's schema, and note the errors of the rest."""
        if schema is None:
            return chunk
        fitting = _Chunk(terms=chunk.terms)
        for number, id, body in zip(chunk.numbers, chunk.ids, chunk.bodies, strict=True):
            try:
                _check(schema, body)
            except SchemaViolation as error:
                self.errors[number] = error
            else:
                fitting.take(number, id, body)
        return fitting

    def settle(self, sent: tuple[_Chunk, Any] | None) -> Flow[RedisQError | None]:
        """Note the outcomes of what was sent; the answer is why nothing more is to be sent, if so."""
        if sent is None:
            return None
        chunk, handle = sent
        try:
            outcomes: Sequence[Outcome[None]] = yield Finish(handle)
        except RedisQError as error:
            self.refuse(chunk, error)
            return not_sent(error)
        for number, outcome in zip(chunk.numbers, outcomes, strict=True):
            if outcome is not None:
                self.errors[number] = outcome
        return None

    def refuse(self, chunk: _Chunk, error: RedisQError) -> None:
        """Note that none of a chunk was accepted, or that it is not known."""
        self.errors.update(dict.fromkeys(chunk.numbers, error))


def _new_ids() -> Iterator[bytes]:
    """Give new ids without end. A batch has an iterator of its own, which no fork copies while it is used."""
    while True:
        yield from keys.new_ids(_CHUNK)
