"""The standard streams of a command: one that is closed or full, or that nobody reads any more, is one line of error.

Python has no stream at all where a descriptor was closed when it began: what is printed then goes nowhere, and an error
to stdout. Typer and rich end in silence when nobody reads. So while a command runs, stdout tells its failures as
`OutputLost`, and stderr, where none can be told, keeps them to itself.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from redisq.cli import output
from redisq.cli.output import CommandError, OutputLost, ReaderGone
from redisq.runtime import process


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Guard stdout and stderr of what runs here."""
    process.open_standard_descriptors()
    before = sys.stdout, sys.stderr
    nowhere = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no text is worth a failure of the terminal's encoding
    sys.stdout, sys.stderr = _Output(sys.stdout, nowhere), _Errors(sys.stderr, nowhere)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        nowhere.close()


def tolerate_loss(*, of_closed_alone: bool = False) -> None:
    """Go on without stdout when it is lost, or only where it was closed from the beginning.

    So do services: what they are there for is not to print.
    """
    if isinstance(sys.stdout, _Output):
        sys.stdout.tolerant = sys.stdout.is_closed or not of_closed_alone


def finish_output() -> None:
    """Write all that was printed, while it can still be told that it is lost.

    Raises:
        OutputLost: something could not be written.
    """
    sys.stdout.flush()
    if isinstance(sys.stdout, _Output):
        sys.stdout.check()


def stdin() -> BinaryIO:
    """Give standard input.

    Raises:
        CommandError: it is closed.
    """
    if sys.stdin is None:
        raise CommandError("Standard input is closed, and was to be read.")
    return sys.stdin.buffer


def read_stdin(most: int = -1) -> bytes:
    """Read standard input to its end, or so many bytes at most.

    Raises:
        CommandError: it cannot be read, or there is nothing in it.
    """
    try:
        found = stdin().read(most)
    except OSError as error:
        raise CommandError(unreadable(error)) from None
    if not found.strip():
        raise CommandError("Standard input is empty, and was to be read.")
    return found


def unreadable(error: OSError, name: str = "Standard input") -> str:
    """Return in a sentence why something cannot be read."""
    return f"{name} cannot be read: {error.strerror or type(error).__name__}."


def can_ask() -> bool:
    """Return whether somebody at a terminal can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


class _Errors:
    """A text stream in front of another one, or of none, that loses what cannot be written. Else it is that stream."""

    def __init__(self, stream: Any, nowhere: Any) -> None:
        self.is_closed = stream is None
        self._stream = nowhere if stream is None else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text."""
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write some texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what waits."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, _: OSError) -> None:
        """Drop what waits, which Python would try to write once more at its end."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _Output(_Errors):
    """The same, but it tells the loss; once more at the end, in case a library kept it to itself."""

    def __init__(self, stream: Any, nowhere: Any) -> None:
        super().__init__(stream, nowhere)
        self.tolerant = False
        self._loss: OutputLost | None = None

    def write(self, text: str) -> int:
        """Write text. Raises: OutputLost."""
        if text == "":
            return 0  # libraries look so which kind of stream this is
        if self.is_closed:
            self._loss = OutputLost("Standard output is closed.")
            self.check()
        return super().write(text)

    def flush(self) -> None:
        """Write what waits. Raises: OutputLost, also for what was lost before."""
        super().flush()
        self.check()

    def check(self) -> None:
        """Raise OutputLost if something could not be written, and that matters."""
        if self._loss and not self.tolerant:
            raise self._loss

    def _lose(self, error: OSError) -> None:
        super()._lose(error)
        if error.errno == errno.EPIPE:
            self._loss = ReaderGone("Nobody reads standard output any more.")
        else:
            self._loss = OutputLost(f"Standard output cannot be written: {error.strerror or type(error).__name__}.")
        if self.tolerant:
            output.complain(f"{self._loss} What is printed from now on goes nowhere.")
        self.check()
