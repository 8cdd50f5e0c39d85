"""What the server itself answers, before and beside the application. Pure but for the random id."""

from __future__ import annotations

import http
import json
import os

#: The words of the statuses that the server gives.
CODES = {400: "bad_request", 408: "too_slow", 431: "head_too_large", 503: "unavailable"}


class Refused(Exception):
    """The request is not served: an HTTP status, and why, in words that quote nothing of it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def answer(self) -> bytes:
        """Return the whole answer, which is the last one on its connection."""
        request_id = os.urandom(16).hex()
        error = {"code": CODES[self.status], "message": self.reason, "request_id": request_id}
        body = json.dumps({"error": error}, separators=(",", ":")).encode("ascii")
        head = [
            f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            *(["retry-after: 1"] if self.status == 503 else []),
            "connection: close",
        ]
        return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body
