"""Messages: `queue.lua`, `get.lua`, `ended.lua`, `delete.lua`, `cancel.lua`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from redisq.body import codec
from redisq.errors import InvalidMessage, MessageNotFound, RedisQError
from redisq.model.message import Message, Status
from redisq.store import scripts
from redisq.store.call import Argument, Call, Limits, call, done, milliseconds, periods
from redisq.store.keys import PartitionKeys, id_text
from redisq.store.record import CANCELLED, DAMAGED, Head, Record, instant, parted
from redisq.store.reply import Outcome, outcomes

#: Messages in one reply of many, each of which may take a megabyte and more.
LOOKED_UP = 100


class NewMessage(NamedTuple):
    """A message to queue: 16-byte id, digest and bytes of its encoded body, delay in seconds.

    `expires_in` is in seconds, too: a message that no worker has got by then is dead. None is never. `priority` is 0 to
    9, the larger first. A tuple, as one is made for each message: a frozen dataclass takes four times as long.
    """

    id: bytes
    digest: bytes
    body: bytes
    delay: float = 0.0
    expires_in: float | None = None
    priority: int = 0


#: The same without the names, which take as long to give as a small message to encode.
Plain = tuple[bytes, bytes, bytes, float, float | None, int]


def queue(keys: PartitionKeys, limits: Limits, messages: Iterable[NewMessage | Plain]) -> Call[list[Outcome[None]]]:
    """Queue up to BATCH messages; a repeat with the same id and body succeeds and changes nothing."""
    return call("queue", keys, _queue_args(limits, messages), done, head=5, size=3)


def put(keys: PartitionKeys, limits: Limits, message: NewMessage) -> Call[list[Outcome[bool]]]:
    """Queue one message, as `queue` does. The only outcome says whether it is new: False for a repeat."""
    return call("queue", keys, _queue_args(limits, (message,)), _READ_PUT, head=5, size=3)


def _queue_args(limits: Limits, messages: Iterable[NewMessage | Plain]) -> list[Argument]:
    args: list[Argument] = [limits.max_length, limits.max_bytes, *periods(limits)]
    for message in messages:
        id, digest, body, delay, expires_in, priority = message
        terms = ""
        if delay or expires_in or priority:
            terms = f"{milliseconds(delay)} {milliseconds(expires_in or 0)} {priority}"
        args += (id, digest + body, terms)
    return args


def _is_new(reply: bytes) -> bool:
    return reply != b"SAME"


_READ_PUT = partial(outcomes, _is_new)


def get(keys: PartitionKeys, ids: Sequence[bytes]) -> Call[list[Outcome[Message]]]:
    """Look up to BATCH messages up."""
    decode = partial(read_messages, keys.queue, ids)
    return call("get", keys, ids, decode, size=1, most=LOOKED_UP, parts=len(ids))


def read_messages(queue_name: str, ids: Sequence[bytes], reply: Sequence[Any]) -> list[Outcome[Message]]:
    """Read the reply of `get.lua`, or what another script answers as that does."""
    outcomes: list[Outcome[Message]] = []
    for message, parts in zip(ids, reply, strict=True):
        try:
            outcomes.append(read_message(queue_name, message, *parts))
        except RedisQError as error:
            outcomes.append(error)
        except (ValueError, IndexError, OverflowError):
            outcomes.append(InvalidMessage(DAMAGED))
    return outcomes


def read_message(
    queue_name: str, id: bytes, stored: bytes | None, record: bytes | None, due: bytes | float | None
) -> Message:
    """Read a message from what is stored of it; `due` is when a waiting one that was never delivered is.

    Raises:
        MessageNotFound: nothing is, or a tombstone.
        InvalidMessage, ValueError, IndexError, OverflowError: another program damaged it.
    """
    state = Record.of(record) if record is not None and not record.startswith(b"T ") else None
    if stored is None and (state is None or state.status != b"E"):
        raise MessageNotFound
    told: dict[str, Any] = {"request": None}
    if stored is not None:
        text, body = parted(stored)
        told["request"], told["headers"] = codec.decode_request(body)
        head = Head.of(text)
        told.update(queued_at=head.queued_at, expires_at=head.expires_at, priority=head.priority)
    if state is None:
        told.update(status=Status.PENDING, available_at=told.get("queued_at") if due is None else instant(due))
    else:
        told.update(attempts=int(state.attempt), history=state.transitions, **_told_of(state))
        if b"cancelled," in state.history:  # which lets it expire, so that nobody delivers it
            told["expires_at"] = None
    return Message(id_text(id), queue_name, **told)


def _told_of(state: Record) -> dict[str, Any]:
    """Read what a message's status brings with it."""
    match state.status:
        case b"P":
            error = state.error() if state.value is not None else None
            return {"status": Status.PENDING, "error": error, "available_at": instant(state.at)}
        case b"I":
            return {"status": Status.INPROGRESS, "progress": state.value, "started_at": instant(state.at)}
        case b"C":
            times = {"started_at": instant(state.at), "finished_at": instant(state.entry)}
            return {"status": Status.COMPLETE, "result": state.value, **times}
        case _:
            started = instant(state.at) if int(state.at) else None
            ended = {"started_at": started, "finished_at": instant(state.entry)}
            return {"status": Status.ERROR, "error": state.error(), **ended}


def ended(keys: PartitionKeys) -> Call[bytes | None]:
    """Ask how much has ended so far: what is the same as before while no message ends; None when that is not known."""
    return Call(scripts.load("ended"), (keys.counters, keys.config), (), lambda reply: reply)


def delete(
    keys: PartitionKeys, limits: Limits, ids: Sequence[bytes], nonce: str, *, letters_only: bool = False
) -> Call[list[Outcome[None]]]:
    """Delete up to BATCH messages; the same call sent again finds its own deletions and succeeds."""
    args: list[Argument] = [*periods(limits), nonce, int(letters_only), keys.hints, *ids]
    return call("delete", keys, args, done, head=6, size=0 if letters_only else 1)


def cancel(keys: PartitionKeys, limits: Limits, who: str, ids: Sequence[bytes]) -> Call[list[Outcome[bool | None]]]:
    """Cancel up to BATCH messages. Each outcome is True: it has ended so, None: it runs, or False: it had finished.

    The same call sent again finds what the first one did, and gives the same.
    """
    args: list[Argument] = [*periods(limits), who, codec.encode(CANCELLED), keys.hints, *ids]
    return call("cancel", keys, args, partial(outcomes, _CANCELLED.__getitem__))  # alone: `who` is not all callers'


_CANCELLED = {b"CANCELLED": True, b"TOLD": None, b"FINISHED": False}
