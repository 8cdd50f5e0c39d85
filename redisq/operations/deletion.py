"""Deleting messages, one or many, and cancelling one. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from redisq import store
from redisq.errors import BatchError, MessageNotFound, RedisQError
from redisq.operations.batches import chunks, ids_of, known, not_sent
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow, settled
from redisq.store import keys
from redisq.store.call import BATCH, new_nonce
from redisq.store.reply import Outcome


def delete_message(caller: Caller, queue: str, id: str | uuid.UUID, token: str | None) -> Flow[None]:
    """Delete one message, whatever its status."""
    where = caller.keys_of(queue)
    caller.authorise("delete", queue, token)
    (outcome,) = yield store.messages.delete(where, caller.limits, [keys.known_id(id)], new_nonce())
    settled(outcome)


def cancel_message(caller: Caller, queue: str, id: str | uuid.UUID, token: str | None) -> Flow[bool | None]:
    """Cancel one message: True when it has ended so, None when its handler is told, False when it had finished."""
    where = caller.keys_of(queue)
    caller.authorise("delete", queue, token)
    who = caller.application or "-"
    (outcome,) = yield store.messages.cancel(where, caller.limits, who, [keys.known_id(id)])
    answer: bool | None = settled(outcome)
    return answer


def delete_messages(caller: Caller, queue: str, ids: Iterable[str | uuid.UUID], token: str | None) -> Flow[list[bool]]:
    """Delete many messages; the answer says of each whether it was there."""
    where = caller.keys_of(queue)
    caller.authorise("delete", queue, token)
    deleted: list[bool] = []
    errors: dict[int, RedisQError] = {}
    texts: list[str] = []
    given_up: RedisQError | None = None
    for chunk in chunks(ids_of(ids), BATCH):
        names = [known(id) for id in chunk]
        asked = list(dict.fromkeys(name for name in names if name is not None))
        outcomes: dict[bytes, Outcome[None]] = {}
        if asked:
            try:
                if given_up:
                    raise given_up
                answers = yield store.messages.delete(where, caller.limits, asked, new_nonce())
                outcomes = dict(zip(asked, answers, strict=True))
            except RedisQError as error:
                outcomes = dict.fromkeys(asked, error)
                given_up = given_up or not_sent(error)
        for id, name in zip(chunk, names, strict=True):
            outcome = outcomes.get(name, MessageNotFound()) if name is not None else MessageNotFound()
            if name is not None and outcome is None:
                del outcomes[name]  # once: it was not there any more
            if isinstance(outcome, RedisQError) and not isinstance(outcome, MessageNotFound):
                errors[len(deleted)] = outcome
            deleted.append(outcome is None)
            texts.append(str(id))
    if errors:
        raise BatchError(texts, errors)
    return deleted
