"""The log of a busy server: what one turn of its loop logs is written at once."""

from __future__ import annotations

import asyncio
import logging


class TurnHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr the lines of a turn of the event loop in one go, in place of a system call or two for each.

    At 64 requests at once that is one write for a dozen of them. A warning, and what is logged without a loop, is
    written at once, after what waits; so is all that waits when the process ends, unless it is killed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line, to be written with those of this turn."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            if len(self._lines) == 1 or record.levelno > logging.INFO:
                self._write_soon(record)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def _write_soon(self, record: logging.LogRecord) -> None:
        if record.levelno <= logging.INFO:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
                return
            except RuntimeError:  # no loop runs here
                pass
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self.lock:  # type: ignore[union-attr]
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
            super().flush()
