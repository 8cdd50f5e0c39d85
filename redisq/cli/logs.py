"""The log of a worker, or of the gateway: one line per event on stderr, as text for people or as JSON for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

import typer

from redisq.cli.output import printable

#: Fields of a record, when it has them: see redisq.claims.identity and redisq.gateway.middleware.
_FIELDS = ("worker", "queue", "message_id", "attempt", "request_id", "application")

Format: TypeAlias = Literal["text", "json"]
Level: TypeAlias = Literal["debug", "info", "warning", "error"]
FormatOption = Annotated[Format | None, typer.Option("--log-format", help="Write each event as text or as JSON.")]
LevelOption = Annotated[Level | None, typer.Option("--log-level", help="Log this and what weighs more.")]


class TextFormatter(logging.Formatter):
    """Writes a record as one line; a traceback, which redisq itself logs at DEBUG only, follows on lines of its own."""

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
        time, milliseconds = self.formatTime(record, self.datefmt), int(record.msecs)
        head = f"{time}.{milliseconds:03d} {record.levelname} {record.name}[{record.process}]"
        return printable(f"{head} {record.message}").replace("\n", r"\n")


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Write `ts` (UTC, milliseconds), `level`, `logger`, `message`, `pid` and those fields that the record has."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **{name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_to_stderr(form: Format | None = None, level: Level | None = None) -> None:
    """Write log records to stderr, as text from INFO on unless told otherwise.

    A module that configured logging by itself has its way, except in what is given here.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=form is not None)
    if level is not None:
        logging.getLogger().setLevel(level.upper())


def warn_of_servers(wanted: bool) -> None:
    """Let be logged, or not, that a Redis may lose messages: see `redisq.link.server`."""
    logging.getLogger("redisq.server").setLevel(logging.NOTSET if wanted else logging.ERROR)
