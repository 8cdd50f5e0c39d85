"""What a worker's log records carry beside their text, for formats that show it field by field."""

from __future__ import annotations

from redisq.worker.delivery import Delivery


def about(worker: str, queue: str | None = None, delivery: Delivery | None = None) -> dict[str, object]:
    """Give the fields of a log record, for `extra=`: never a body, never what a handler's exception says."""
    fields: dict[str, object] = {"worker": worker}
    if queue is not None:
        fields["queue"] = queue
    if delivery is not None:
        fields |= {"message_id": delivery.id, "attempt": delivery.attempt}
    return fields
