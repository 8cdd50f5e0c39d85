"""Loggers whose owner goes on whatever the process' logging raises, and which message a line of the log is about.

Filters, handlers, formatters and record factories are the user's code, and they run where redisq says something: in the
step that settles a message, in the thread that renews leases. A record that cannot be logged is lost; nothing else is.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Protocol

_complained = False


class Handled(Protocol):
    """A message whose handler runs."""

    @property
    def queue(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


#: The message whose handler runs in this context, and in those that are copied from it, as for threads.
handled: ContextVar[Handled] = ContextVar("redisq.handled")


class MessageFields(logging.Filter):
    """Gives a record the fields `queue`, `message_id` and `attempt` of the message whose handler has logged it.

    It belongs on handlers of logging: `handler.addFilter(redisq.MessageFields())`. A field of the same name that the
    record has already goes by `extra_` and its name from then on.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        message, fields = handled.get(None), vars(record)
        of_redisq = record.name.startswith("redisq.") and "message_id" in fields
        if message is not None and not of_redisq:
            for name, value in (("queue", message.queue), ("message_id", message.id), ("attempt", message.attempt)):
                given = fields.get(name, value)
                if type(given) is not type(value) or given != value:
                    fields[f"extra_{name}"] = given
                fields[name] = value
        return True


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger of the standard library that raises nothing, SystemExit and KeyboardInterrupt included."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave everything as it is; the adapter would put its own `extra` in place of the record's."""
        return msg, kwargs

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        """Return whether anything is to be said at this level; no if logging cannot tell."""
        try:
            return self.logger.isEnabledFor(level)
        except BaseException as error:
            _complain(error)
            return False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a record, if the process' logging takes it."""
        try:
            if self.logger.isEnabledFor(level):
                kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # who called this
                self.logger.log(level, msg, *args, **kwargs)
        except BaseException as error:
            _complain(error)


def logger(name: str) -> Log:
    """Return the logger of this name, fenced."""
    return Log(logging.getLogger(name), {})


def _complain(error: BaseException) -> None:
    """Say once in a process that its logging is broken: else nobody would learn why logs are empty."""
    global _complained
    if not _complained:
        _complained = True
        try:
            sys.stderr.write(f"redisq: the logging of this process raised {type(error).__name__}: records are lost\n")
        except BaseException:  # closed, full, or replaced by something that raises, too
            return
