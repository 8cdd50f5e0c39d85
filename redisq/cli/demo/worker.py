"""The demo's worker: counts what is in a text file. A file that is not UTF-8 makes its attempt fail."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypedDict

from redisq.worker import Delivery, Worker

QUEUE = "files"

worker = Worker()


class Counts(TypedDict):
    """The result of a message."""

    lines: int
    words: int
    sha256: str


@worker.handler(QUEUE, concurrency=4)
def count_file(delivery: Delivery) -> Counts:
    """Count the file that the request names."""
    return count(Path(delivery.request["path"]).read_bytes())


def count(data: bytes) -> Counts:
    """Count lines and words of UTF-8 text.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    text = data.decode("utf-8")
    return {"lines": len(text.splitlines()), "words": len(text.split()), "sha256": hashlib.sha256(data).hexdigest()}
