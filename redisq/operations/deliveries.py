"""The operations of workers that speak through another program, as flows. Pure.

A worker gets deliveries, each with a receipt, and settles each of them: it completes, fails or releases it, and renews
its lease meanwhile. A receipt is text here, `<attempt>.<nonce>`, and is worth nothing without its message's id. The
same call again is answered as the first was, so that each may be repeated when its answer was lost.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from redisq import store
from redisq.body import codec
from redisq.errors import InvalidMessage, LeaseLost, MessageTooLarge
from redisq.model.delivery import Claimed, Failed, Failure, Receipt, Renewal
from redisq.model.message import Message, json_ready
from redisq.model.queue import MAX_BYTES_CEILING
from redisq.operations.caller import Caller
from redisq.operations.flow import Flow, settled
from redisq.operations.options import LONGEST, is_seconds
from redisq.store import keys
from redisq.store.keys import PartitionKeys
from redisq.store.record import Head

T = TypeVar("T")

_RECEIPT = re.compile(r"([1-9][0-9]{0,14})\.([A-Za-z0-9_-]{12})")
_TYPE_TEXT, _ERROR_TEXT = 200, 2_000  # characters that are kept
_CUT = b"\n...\n"


@dataclass(frozen=True, slots=True)
class Delivered:
    """One delivery as a worker gets it. `deadline` is when its lease lapses unless it is renewed.

    When a handler fails in its `is_last_attempt`, no other follows; `attempt` counts those that were not charged, too.
    """

    id: str
    queue: str
    request: Any
    attempt: int
    receipt: str
    deadline: datetime
    headers: Mapping[str, str]
    max_attempts: int
    is_last_attempt: bool
    queued_at: datetime
    priority: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {field.name: json_ready(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Renewed:
    """A lease that was renewed: when it lapses, by this machine's clock, and how many seconds it lasts.

    `cancelled` says that the message is to be cancelled: a delivery that fails now, or is released, ends it so.
    """

    deadline: datetime
    lease: float
    cancelled: bool


def receipt_text(receipt: Receipt) -> str:
    """Write a receipt."""
    return f"{receipt.attempt}.{receipt.nonce}"


def read_receipt(id: str | uuid.UUID, text: object) -> Receipt:
    """Read a receipt for a message.

    Raises:
        MessageNotFound: `id` is no id.
        InvalidMessage: the receipt is malformed.
    """
    name = keys.known_id(id)
    found = _RECEIPT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidMessage("This is no receipt: pass the one that came with the delivery, as it came.")
    return Receipt(name, int(found[1]), found[2])


def open_claimed(
    queue: str, claimed: Sequence[Claimed], deadline: datetime, max_attempts: int
) -> tuple[list[Delivered], list[Failure]]:
    """Return what a claim brought as deliveries, and those that cannot be read as the failures they are."""
    opened: list[Delivered] = []
    unreadable: list[Failure] = []
    for one in claimed:
        receipt = one.receipt
        try:
            (request, headers), head = codec.decode_request(one.body), Head.of(one.head)
        except InvalidMessage as error:
            unreadable.append(_rejection(receipt, error, "unreadable"))
        else:
            id, text = keys.id_text(receipt.id), receipt_text(receipt)
            how = (headers, max_attempts, one.failed + 1 >= max_attempts, head.queued_at, head.priority)
            opened.append(Delivered(id, queue, request, receipt.attempt, text, deadline, *how))
    return opened, unreadable


def complete(
    caller: Caller, queue: str, id: str | uuid.UUID, receipt: object, result: object, token: str | None
) -> Flow[None]:
    """End a message with its result. One that cannot be stored ends it as ERROR, reason `rejected`.

    Raises:
        LeaseLost: the delivery no longer holds the message.
        MessageTooLarge, InvalidMessage: the result cannot be stored; the message has ended.
    """
    where, proof = _permitted(caller, queue, id, receipt, token)
    try:
        encoded = codec.encode(result, MAX_BYTES_CEILING)
        (outcome,) = yield store.deliveries.complete(where, caller.limits, [(proof, encoded)])
        if isinstance(outcome, LeaseLost):
            yield from _refuse_again(where, proof)
        settled(outcome)
    except InvalidMessage as error:
        (outcome,) = yield store.deliveries.fail(where, caller.limits, [_rejection(proof, error, "rejected")])
        settled(outcome)
        raise


def _refuse_again(where: PartitionKeys, proof: Receipt) -> Flow[None]:
    """Raise what was raised before, if this delivery ended by a result that Redis found too large."""
    (found,) = yield store.messages.get(where, [proof.id])
    error = found.error if isinstance(found, Message) and found.attempts == proof.attempt else None
    if error is not None and (error["reason"], error["type"]) == ("rejected", MessageTooLarge.__name__):
        raise MessageTooLarge(error["message"])


def fail(
    caller: Caller,
    queue: str,
    id: str | uuid.UUID,
    receipt: object,
    error: Mapping[str, str],
    token: str | None,
    *,
    retry_after: float | None = None,
    final: bool = False,
) -> Flow[float | None]:
    """End a delivery with an error, its `type` and `message`, and maybe a `traceback`; cut to what is kept of each.

    The answer is the delay until the next attempt, None for none.

    `retry_after` is in seconds, in place of the queue's backoff. `final` rejects the message: no attempt follows.

    Raises:
        LeaseLost: the delivery no longer holds the message.
        InvalidMessage: a parameter is not valid.
    """
    where, proof = _permitted(caller, queue, id, receipt, token)
    _check_delay("retry_after", retry_after)
    if final and retry_after is not None:
        raise InvalidMessage("final cannot go with retry_after: no attempt follows.")
    cause, kept = "rejected" if final else "failed", _kept(error, caller.settings.traceback_bytes)
    failure = store.deliveries.failure(proof, kept, cause=cause, delay=retry_after, final=final)
    (outcome,) = yield store.deliveries.fail(where, caller.limits, [failure])
    failed: Failed = settled(outcome)
    return failed.delay


def renew(
    caller: Caller, queue: str, id: str | uuid.UUID, receipt: object, progress: bytes, token: str | None
) -> Flow[Renewed]:
    """Renew a lease, and show `progress`, encoded; b"" leaves what was shown last.

    Raises:
        LeaseLost: the delivery no longer holds the message.
    """
    where, proof = _permitted(caller, queue, id, receipt, token)
    at = datetime.now(UTC)
    (outcome,) = yield store.deliveries.renew(where, caller.limits, [(proof, progress)])
    renewal: Renewal = settled(outcome)
    return Renewed(at + timedelta(seconds=renewal.lease), *renewal)


def release(
    caller: Caller,
    queue: str,
    id: str | uuid.UUID,
    receipt: object,
    token: str | None,
    *,
    after: float | None = None,
) -> Flow[None]:
    """Hand a message back, uncharged; with `after`, in seconds, it is deferred: nobody gets it before.

    Raises:
        LeaseLost: the delivery no longer holds the message.
        InvalidMessage: `after` is not valid.
    """
    where, proof = _permitted(caller, queue, id, receipt, token)
    _check_delay("after", after)
    (outcome,) = yield store.deliveries.defer(where, caller.limits, [(proof, after)])
    settled(outcome)


def _check_delay(name: str, value: object) -> None:
    if value is not None and not (is_seconds(value) and 0 <= value <= LONGEST):
        raise InvalidMessage(f"{name} takes seconds, from 0 to a year ({LONGEST:,})")


def _permitted(
    caller: Caller, queue: str, id: str | uuid.UUID, receipt: object, token: str | None
) -> tuple[PartitionKeys, Receipt]:
    where = caller.keys_of(queue)
    caller.authorise("work", queue, token)
    return where, read_receipt(id, receipt)


def _rejection(receipt: Receipt, error: InvalidMessage, cause: str) -> Failure:
    kept = {"type": type(error).__name__, "message": _valid(str(error), _ERROR_TEXT)}
    return store.deliveries.failure(receipt, kept, cause=cause, final=True)


def _kept(error: Mapping[str, str], traceback_bytes: int) -> dict[str, str]:
    kept = {"type": _valid(error["type"], _TYPE_TEXT), "message": _valid(error["message"], _ERROR_TEXT)}
    traceback = _both_ends(_valid(error.get("traceback", ""), None).encode(), traceback_bytes)
    return {**kept, "traceback": traceback} if traceback else kept


def _both_ends(text: bytes, most: int) -> str:
    """Cut a text in its middle: some languages begin a traceback with what tells most, others end it so."""
    if len(text) > most:
        half = max(0, most - len(_CUT)) // 2
        text = text[:half] + _CUT + text[-half:] if half else b""
    return text.decode("utf-8", "ignore")


def _valid(text: str, most: int | None) -> str:
    """Cut a text, and make it valid Unicode."""
    return text[:most].encode("utf-8", "replace").decode("utf-8")
