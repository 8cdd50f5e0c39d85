"""What the log says of deliveries that have ended: how, how long it took, and what becomes of the message."""

from __future__ import annotations

import logging
from typing import Any, Literal

from redisq.claims.identity import about
from redisq.errors import RedisQError
from redisq.model.delivery import Failed
from redisq.runtime import logs
from redisq.worker.handlers.held import Held
from redisq.worker.handlers.verdicts import Verdict

log = logs.logger("redisq.worker")

_TEXT = 300  # characters of what a handler's exception says


class OutcomeLog:
    """Tells of outcomes once Redis has taken them: only it knows whether a message is tried again, and when.

    What succeeds is told at DEBUG, a failure that is tried again as a warning, a death as an error. With `errors`
    "type" nothing is told of what handlers raise but its type.
    """

    def __init__(self, worker: str, errors: Literal["full", "type"]) -> None:
        self._worker = worker
        self._full = errors == "full"

    @property
    def tells_of_success(self) -> bool:
        """Whether anybody wants to know of what succeeds."""
        return log.isEnabledFor(logging.DEBUG)

    def confirmed(self, held: Held, outcome: RedisQError | Failed | None) -> None:
        """Tell what came of a delivery: Redis has refused it, or says what becomes of a failed one."""
        if isinstance(outcome, RedisQError):
            refused = f"outcome refused: {outcome}"
            self.warn(held, refused if held.verdict is None else f"{refused} It was: {self._said(held.verdict)}")
        elif held.told and held.verdict is not None:
            self._tell(logging.INFO, held, f"attempt {held.attempt}", f"cancelled: {self._said(held.verdict)}", {})
        elif outcome is not None and held.verdict is not None:
            self._failed(held, held.verdict, outcome)
        elif held.took is not None:
            self._tell(logging.DEBUG, held, f"attempt {held.attempt}", f"complete in {held.took:.3f} s", {})
        held.verdict = None

    def deferred(self, held: Held, delay: float) -> None:
        """Tell that a handler has put its message off."""
        if self.tells_of_success:
            self._tell(logging.DEBUG, held, f"attempt {held.attempt}", f"deferred by {delay:g} s", {})

    def warn(self, held: Held, text: str) -> None:
        """Tell that something is wrong with a delivery."""
        self._tell(logging.WARNING, held, f"attempt {held.attempt}", text, {})

    def _failed(self, held: Held, verdict: Verdict, failed: Failed) -> None:
        said = self._said(verdict)
        fields: dict[str, Any] = {"error": verdict.error["type"], "max_attempts": failed.max_attempts}
        if failed.delay is None:
            # Handlers of logging, such as Sentry's, take what was raised itself.
            raised = verdict.raised if self._full else None
            self._tell(
                logging.ERROR,
                held,
                _count(held, verdict, failed),
                f"dead: {said.removeprefix('failed: ')}",
                fields,
                exc_info=raised,
            )
            return
        text, fields["retry_in"] = f"{said}; tried again in {failed.delay:.1f} s", failed.delay
        self._tell(logging.WARNING, held, _count(held, verdict, failed), text, fields)

    def _said(self, verdict: Verdict) -> str:
        """Say how an attempt failed. What redisq itself says of a request or a result may name its keys."""
        told = verdict.error["message"][:_TEXT] if self._full and verdict.raised is not None else ""
        return f"{verdict.said}: {told}" if told else verdict.said

    def _tell(
        self,
        level: int,
        held: Held,
        attempt: str,
        text: str,
        fields: dict[str, Any],
        exc_info: BaseException | None = None,
    ) -> None:
        extra = {**about(self._worker, held.queue, held.id, held.attempt), **fields}
        if held.took is not None:
            extra["duration"] = round(held.took, 6)
        log.log(level, "queue %s message %s %s: %s", held.queue, held.id, attempt, text, extra=extra, exc_info=exc_info)


def _count(held: Held, verdict: Verdict, failed: Failed) -> str:
    """Say which attempt it was, of how many. Those that were lost or handed back have a number, but are not counted."""
    if verdict.final:
        return f"attempt {held.attempt}"
    if held.attempt == failed.failures:
        return f"attempt {held.attempt} of {failed.max_attempts}"
    return f"attempt {held.attempt}, failure {failed.failures} of {failed.max_attempts}"
