"""The log of a worker, or of the gateway: one line per event on stderr, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import typer

from redisq.cli.output import printable
from redisq.runtime.logs import MessageFields

#: What every record has. Whatever it has beside is told: fields of redisq's own, and those of `extra=`.
_OF_RECORDS = frozenset([*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime", "taskName"])

Format: TypeAlias = Literal["text", "json"]
Level: TypeAlias = Literal["debug", "info", "warning", "error"]
FormatOption = Annotated[Format | None, typer.Option("--log-format", help="Write each event as text or as JSON.")]
LevelOption = Annotated[Level | None, typer.Option("--log-level", help="Log this and what weighs more.")]


class TextFormatter(logging.Formatter):
    """Writes a record as one line, with its time in UTC; a traceback follows on lines of its own.

    What a handler logs is told with its message's queue, id and attempt, like what redisq says of it.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%S")
        self._second = (0, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Write the time as far as the second, once for all records of that second."""
        second, text = self._second
        if int(record.created) != second:
            second, text = self._second = int(record.created), super().formatTime(record, datefmt)
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Write the line, made safe for a terminal and for whoever reads line by line."""
        second, text, id = self.formatTime(record, self.datefmt), record.message, getattr(record, "message_id", None)
        if isinstance(id, str) and id not in text:
            of = vars(record)
            text = f"queue {of.get('queue')} message {id} attempt {of.get('attempt')}: {text}"
        head = f"{second}.{int(record.msecs):03d}Z {record.levelname} {record.name}[{record.process}]"
        return printable(f"{head} {text}").replace("\n", r"\n")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        """Write a traceback, made safe in the same way but for its lines."""
        return printable(super().formatException(ei))


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Write `ts` (UTC, milliseconds), `level`, `logger`, `message`, `pid` and whatever fields the record has."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        fields = {name: value for name, value in vars(record).items() if name not in _OF_RECORDS and value is not None}
        if "message_id" in fields:
            entry["id"] = fields.pop("message_id")
        entry |= {f"extra_{name}" if name in entry else name: value for name, value in fields.items()}
        try:
            return json.dumps(entry, default=str, allow_nan=False)
        except (TypeError, ValueError, RecursionError):  # a field that JSON cannot have
            told = {name: value if type(value) in (str, int) else str(value) for name, value in entry.items()}
            return json.dumps(told)


def log_to_stderr(form: Format | None = None, level: Level | None = None) -> None:
    """Write log records to stderr, as text from INFO on unless told otherwise: by options, or else by settings.

    A module that configured logging by itself has its way, except in what is told.

    Raises:
        InvalidSettings: REDISQ_LOG_LEVEL or REDISQ_LOG_FORMAT is not valid.
    """
    from redisq.settings import LogSettings

    settings = LogSettings.read()
    form, level = form or settings.log_format, level or settings.log_level
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(MessageFields())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=form is not None)
    if level is not None:
        logging.getLogger().setLevel(level.upper())


def warn_of_servers(wanted: bool) -> None:
    """Let be logged, or not, that a Redis may lose messages: see `redisq.link.server`."""
    logging.getLogger("redisq.server").setLevel(logging.NOTSET if wanted else logging.ERROR)
