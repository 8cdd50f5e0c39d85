"""What scripts answer, read: one function per kind of reply. Pure; the counterpart of `calls`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar

from redisq.body import codec
from redisq.errors import (
    ApplicationConflict,
    InvalidApplication,
    InvalidMessage,
    LeaseLost,
    MessageConflict,
    MessageNotFound,
    MessageTooLarge,
    QueueFull,
    RedisQError,
)
from redisq.model.application import Records
from redisq.model.audit import Judgement, Look, Survey
from redisq.model.delivery import Claim, Claimed, Receipt
from redisq.model.listing import DeadLetter, Listed, Page
from redisq.model.message import Message, Status, Transition
from redisq.model.queue import QueueStats, stored_number
from redisq.store.keys import id_text

T = TypeVar("T")
Outcome: TypeAlias = T | RedisQError


def nothing(_reply: Any) -> None:
    return None


def is_new(reply: bytes) -> bool:
    return reply != b"SAME"


def seconds(reply: int) -> float:
    return reply / 1000


def retry_delay(reply: int) -> float | None:
    return None if reply < 0 else reply / 1000


def outcome(reply: Any) -> RedisQError | None:
    return _refusal(reply) if isinstance(reply, list) else None


def records(reply: Sequence[bytes]) -> Records | None:
    if not reply:
        return None
    fields = dict(zip(reply[1::2], reply[2::2], strict=True))
    fields.pop(b"#", None)
    return Records(reply[0], {name.decode(errors="backslashreplace"): record for name, record in fields.items()})


def outcomes(decode: Callable[[Any], T], reply: Sequence[Any]) -> list[Outcome[T]]:
    return [_refusal(item) if isinstance(item, list) else decode(item) for item in reply]


def _refusal(words: Sequence[bytes]) -> RedisQError:
    match words[0]:
        case b"LEASE_LOST":
            return LeaseLost()
        case b"MESSAGE_NOT_FOUND":
            return MessageNotFound()
        case b"MESSAGE_CONFLICT":
            return MessageConflict()
        case b"MESSAGE_TOO_LARGE":
            return MessageTooLarge(
                f"The message is larger than the queue's max_bytes, {int(words[1]):,} bytes. Send a reference to its "
                "data, or raise max_bytes."
            )
        case b"QUEUE_FULL":
            return QueueFull(
                f"The queue is at its max_length of {int(words[1]):,} waiting messages. Queue again later."
            )
        case b"RECORD_CHANGED":
            return ApplicationConflict()
        case b"TOO_MANY_APPLICATIONS":
            return InvalidApplication(f"There are {int(words[1]):,} applications already: no more can be registered.")
        case word:
            return RedisQError(f"A script answered with an unknown word, {word!r}: is a newer redisq at work?")


def text(reply: bytes | None) -> str | None:
    """Read what anybody may have written."""
    return None if reply is None else reply.decode(errors="backslashreplace")


def pairs(reply: Sequence[bytes]) -> dict[str, str]:
    """Read names and values that anybody may have written."""
    texts = [text.decode(errors="backslashreplace") for text in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def numbers(reply: Sequence[bytes]) -> dict[str, int]:
    """Read names and whole numbers; 0 stands for what is none."""
    return {name: stored_number(number) or 0 for name, number in pairs(reply).items()}


def stats(queue_name: str, reply: Sequence[Any]) -> QueueStats:
    ready, scheduled, in_progress, finished, dead, age, counters, paused, workers = reply
    totals = numbers(counters)
    return QueueStats(
        queue=queue_name,
        ready=ready,
        scheduled=scheduled,
        in_progress=in_progress,
        finished=finished,
        dead=dead,
        oldest_age=None if age < 0 else age / 1000,
        workers=workers,
        paused=paused == b"1",
        queued=totals.get("queued", 0),
        completed=totals.get("completed", 0),
        failed=totals.get("failed", 0),
        lost=totals.get("lost", 0),
        released=totals.get("released", 0),
        died=totals.get("dead", 0),
        unreadable=totals.get("unreadable", 0),
        deleted=totals.get("deleted", 0),
        redriven=totals.get("redriven", 0),
    )


def claim(nonce: str, reply: Sequence[Any]) -> Claim:
    lease, wait, suspects, isolated, time = reply[0] / 1000, reply[1], reply[2], reply[3] == 1, reply[4] / 1000
    deliveries = [
        Claimed(Receipt(reply[i], int(reply[i + 1]), nonce), _body_of(reply[i + 2])) for i in range(5, len(reply), 3)
    ]
    rest = max(0, -1 - wait)
    return Claim(deliveries, lease, None if wait < 0 else wait / 1000, suspects, isolated, time, rest)


def _body_of(stored: bytes) -> bytes:
    """Cut off what stands before the body: entry, expiry, priority, a space, the digest. A damaged one has none."""
    return stored.partition(b" ")[2][8:]


def messages(queue_name: str, ids: Sequence[bytes], reply: Sequence[Any]) -> list[Outcome[Message]]:
    outcomes: list[Outcome[Message]] = []
    for message, parts in zip(ids, reply, strict=True):
        try:
            outcomes.append(_message(queue_name, message, *parts))
        except RedisQError as error:
            outcomes.append(error)
        except (ValueError, IndexError, OverflowError):
            outcomes.append(InvalidMessage("What Redis holds of this message was damaged by another program."))
    return outcomes


def _message(
    queue_name: str, message: bytes, stored: bytes | None, record: bytes | None, due: bytes | float | None
) -> Message:
    fields = record.split(b" ", 8) if record is not None and not record.startswith(b"T ") else None
    if stored is None and (fields is None or fields[0] != b"E"):
        raise MessageNotFound
    request, queued_at, expires_at, priority = None, None, None, 0
    if stored is not None:
        request, _ = codec.decode_request(_body_of(stored))
        entry, *terms = stored[: stored.index(b" ")].split(b";")
        queued_at, expires_at = _instant(entry), _instant(terms[0]) if terms and terms[0] != b"0" else None
        priority = int(terms[1]) if len(terms) > 1 else 0
    make: Callable[..., Message] = partial(
        Message,
        id_text(message),
        queue_name,
        request=request,
        queued_at=queued_at,
        expires_at=expires_at,
        priority=priority,
    )
    if fields is None:
        return make(status=Status.PENDING, available_at=_instant(due) if due is not None else queued_at)
    return _recorded(make, fields)


def _recorded(make: Callable[..., Message], fields: Sequence[bytes]) -> Message:
    status, attempts, _, counts, cause, at, entry, history, payload = fields
    value = codec.decode(payload) if payload else None
    lost = counts.split(b",")[1] if counts != b"-" else b"0"
    make = partial(make, attempts=int(attempts), history=_history(history))
    match status:
        case b"P":
            error = _error(value, cause, lost) if value is not None else None
            return make(status=Status.PENDING, error=error, available_at=_instant(at))
        case b"I":
            return make(status=Status.INPROGRESS, progress=value, started_at=_instant(at))
        case b"C":
            times = {"started_at": _instant(at), "finished_at": _instant(entry)}
            return make(status=Status.COMPLETE, result=value, **times)
        case _:
            error = _error(value, cause, lost)
            started = _instant(at) if int(at) else None
            return make(status=Status.ERROR, error=error, started_at=started, finished_at=_instant(entry))


def _error(value: Any, cause: bytes, lost: bytes) -> dict[str, str]:
    reason = cause.decode()
    if isinstance(value, dict):
        return {"type": str(value.get("type")), "message": str(value.get("message")), "reason": reason}
    if reason == "unreadable":
        return {"type": "Unreadable", "message": "The message's body is gone from Redis.", "reason": reason}
    if reason == "expired":
        text = "Its expires_in had passed before it was delivered."
        return {"type": "Expired", "message": text, "reason": reason}
    text = f"Its lease lapsed {int(lost)} times: the worker died, hung or lost Redis each time."
    return {"type": "LeaseLost", "message": text, "reason": reason}


def _history(text: bytes) -> tuple[Transition, ...]:
    if text == b"-":
        return ()
    lines = (line.split(",") for line in text.decode().split(";"))
    return tuple(Transition(event, int(attempt), _instant(float(at)), who) for event, attempt, at, who in lines)


def dead_letters(queue_name: str, reply: Sequence[Sequence[Any]]) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    for id, died, record, stored in reply:
        fields = record.split(b" ", 8) if record is not None else []
        sound = len(fields) == 9 and fields[0] == b"E"
        try:
            message = _message(queue_name, id, stored, record, None) if sound else None
        except (RedisQError, ValueError, IndexError, OverflowError):  # its body or its record was damaged
            message = None
        reason = fields[4].decode(errors="replace") if sound else "unreadable"
        letters.append(DeadLetter(id, int(float(died)), reason, message, len(stored or b"")))
    return letters


def page(reply: Sequence[Any]) -> Page:
    cursor, *items = reply
    return Page([_listed(*item) for item in items], None if cursor == b"0" else cursor.decode())


def _listed(id: bytes, at: bytes, record: bytes | None, stored: bytes | None, size: int) -> Listed:
    told: dict[str, Any] = {}
    try:
        if stored is not None:
            told.update(request=codec.decode_request(_body_of(stored))[0], legible=True)
        if record is not None:
            told.update(_told(record.split(b" ", 8)))
        elif stored is not None:
            told.update(attempts=0)
    except (RedisQError, ValueError, IndexError, OverflowError):  # its body or its record was damaged
        pass
    return Listed(id_text(id), _instant(float(at)), size, **told)


def _told(fields: Sequence[bytes]) -> dict[str, Any]:
    """Read what a list shows of a record."""
    status, attempts, _, counts, cause, at, entry, _, payload = fields
    told: dict[str, Any] = {"attempts": int(attempts)}
    if status == b"I":
        told.update(worker=entry.decode(), started_at=_instant(at))
    elif status == b"E" or (status == b"P" and payload):
        lost = counts.split(b",")[1] if counts != b"-" else b"0"
        told.update(error=_error(codec.decode(payload) if payload else None, cause, lost))
    return told


def look(reply: Sequence[Any]) -> Look:
    cursor, places, doubtful, met = reply
    return Look(cursor, places, doubtful, list(zip(met[::2], met[1::2], strict=True)))


def audit(reply: Sequence[Any]) -> Judgement:
    judged, *problems = reply
    return Judgement(judged, [(id, word.decode(), mended == 1) for id, word, mended in problems])


def survey(names: Sequence[str], reply: Sequence[Any]) -> Survey:
    kinds = dict(zip(names, (kind.decode() for kind in reply[0]), strict=True))
    if len(reply) == 1:
        return Survey(kinds, sound=False)
    held, recorded, rings, *times, forgotten, config = reply[1:]
    ahead, lapsed, due, leftover = (time / 1000 for time in times)
    return Survey(kinds, True, held, recorded, rings, ahead, lapsed, due, leftover, forgotten, pairs(config))


def info(reply: Sequence[Any]) -> tuple[float, str]:
    time, _, told = reply
    return time / 1000, told.decode(errors="replace")


def scan(reply: Sequence[Any]) -> tuple[bytes, list[str]]:
    cursor, _, names = reply
    return cursor, [name.decode(errors="backslashreplace") for name in names]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _instant(milliseconds_or_entry: bytes | float) -> datetime:
    """Read milliseconds since 1970, as a number or at the head of a stream's entry id."""
    if isinstance(milliseconds_or_entry, bytes):
        milliseconds_or_entry = float(milliseconds_or_entry.partition(b"-")[0])
    return _EPOCH + timedelta(milliseconds=milliseconds_or_entry)
