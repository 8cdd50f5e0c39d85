"""What a worker's log records carry beside their text, for formats that show it field by field."""

from __future__ import annotations

import os
import re
import secrets
import socket


def process_name(kind: str | None = None) -> str:
    """Make a name for this process as a worker, under which it stands in histories, between commas."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
    name = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
    return name if kind is None else f"{kind}:{name}"


def about(
    worker: str, queue: str | None = None, message_id: str | None = None, attempt: int | None = None
) -> dict[str, object]:
    """Return the fields of a log record, for `extra=`: never a body, never what a handler's exception says."""
    fields: dict[str, object] = {"worker": worker}
    if queue is not None:
        fields["queue"] = queue
    if message_id is not None:
        fields |= {"message_id": message_id, "attempt": attempt}
    return fields
