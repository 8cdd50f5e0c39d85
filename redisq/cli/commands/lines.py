"""Queue messages from lines of JSON, as they arrive, in bounded memory."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redisq.body.jsonlines import is_blank
from redisq.cli import documents, output, streams
from redisq.client import RedisQ
from redisq.errors import BatchError, Indeterminate, InvalidMessage, MessageConflict, RedisQError
from redisq.model.queue import MAX_BYTES_CEILING
from redisq.store.call import BATCH

if TYPE_CHECKING:
    from rich.progress import Progress

_CHUNK = 256 * 1024  # bytes of one read
_LONGEST = MAX_BYTES_CEILING  # bytes of a line
_NAMED = 100  # ids that an error names


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines in a row. `first` is the number of the first, 1 at the beginning; `size` the bytes read up to here."""

    first: int
    lines: Sequence[bytes]
    size: int


def batches(stream: io.BufferedIOBase) -> Iterator[Batch]:
    """Cut a stream into batches of lines, as they arrive: none waits for a line that is not there yet.

    A line that is too long to be a message is cut, so that it takes little memory.
    """
    number, size, rest = 1, 0, bytearray()
    while chunk := stream.read1(_CHUNK):
        size += len(chunk)
        *lines, tail = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(rest) + lines[0]
            rest.clear()
        rest += tail[: max(0, _LONGEST + 1 - len(rest))]
        for first in range(0, len(lines), BATCH):
            yield Batch(number + first, lines[first : first + BATCH], size)
        number += len(lines)
    if rest:
        yield Batch(number, [bytes(rest)], size)


class Feed:
    """Queues lines batch by batch, and counts: `read` lines, of which `queued` and `refused`; the others are blank.

    `halted` is set once no further line can be queued, or none shall be; it says why.
    """

    def __init__(
        self,
        mq: RedisQ,
        queue: str,
        token: str | None,
        made: Callable[[Any], Any],
        *,
        stop_on_error: bool,
        ids: bool,
    ) -> None:
        self._mq = mq
        self._queue = queue
        self._token = token
        self._made = made  # what is queued for a document
        self._stop_on_error = stop_on_error
        self._ids = ids
        self._complaints: dict[int, str] = {}
        self._under_way: Batch | None = None
        self._unprinted: list[str] = []  # ids that may not have been printed
        self.read = 0
        self.queued = 0
        self.refused = 0
        self.halted: str | None = None

    def send(self, batch: Batch) -> None:
        """Queue the lines of a batch. Each bad one is reported and left out; its id is an empty line."""
        self._under_way = batch
        numbers, messages = self._parsed(batch)
        done = self._queue_messages(numbers, messages) if messages else {}
        self._under_way, self._unprinted = None, list(done.values())
        self.refused += len(self._complaints)
        for number in sorted(self._complaints):
            output.complain(f"Line {number:,} {self._complaints[number]}")
        self._complaints.clear()
        if self._ids:
            output.text("\n".join(done.get(number, "") for number in range(batch.first, self.read + 1)))
            self._unprinted = []
        if self._stop_on_error and self.refused and not self.halted:
            self.halted = f"Stopped after line {self.read:,}."

    def counted(self) -> str:
        """Return how many lines were queued, and how many refused."""
        return f"queued {self.queued:,}, refused {self.refused:,}"

    def told(self) -> str:
        """Return how far it came, in the rest of a sentence, for whoever does not get to see what was printed."""
        counts = f"{self.queued:,} queued, {self.refused:,} refused"
        if self._under_way is not None:
            first, last = self._under_way.first, self._under_way.first + len(self._under_way.lines) - 1
            doubt = f"of lines {first:,} to {last:,} some may be queued, of later ones none"
            return f"after line {first - 1:,}: {counts}; {doubt}."
        if self._ids and self._unprinted:
            counts = f"{counts}, the last of them as {output.listed(self._unprinted, _NAMED)}"
        return f"after line {self.read:,}: {counts}."

    def _parsed(self, batch: Batch) -> tuple[list[int], list[Any]]:
        """Read the lines, with --stop-on-error up to the first bad one; give their numbers and messages."""
        numbers, messages = [], []
        for self.read, line in enumerate(batch.lines, batch.first):
            if is_blank(line):
                continue
            try:
                if len(line) > _LONGEST:
                    raise documents.Unreadable(f"is longer than {_LONGEST:,} bytes")
                messages.append(self._made(documents.read(line)))
                numbers.append(self.read)
                continue
            except documents.Unreadable as error:
                self._complaints[self.read] = f"{error}."
            except InvalidMessage as error:
                self._complaints[self.read] = f"is refused: {output.spelled(error)}"
            if self._stop_on_error:
                break
        return numbers, messages

    def _queue_messages(self, numbers: Sequence[int], messages: Sequence[Any]) -> dict[int, str]:
        """Queue messages, and give the ids of those that were, by the numbers of their lines."""
        errors: dict[int, RedisQError] = {}
        try:
            ids = self._mq.queue_messages(self._queue, messages, self._token)
        except BatchError as error:
            ids, errors = error.ids, error.errors
        except RedisQError as error:
            ids, errors = [], dict.fromkeys(range(len(messages)), error)
        for index, refusal in errors.items():
            if isinstance(refusal, InvalidMessage | MessageConflict):
                self._complaints[numbers[index]] = f"is refused: {output.spelled(refusal)}"
            elif self.halted is None:
                self.halted = self._why(numbers[index], numbers[-1], refusal)
        self.queued += len(messages) - len(errors)
        return {numbers[index]: id for index, id in enumerate(ids) if index not in errors}

    def _why(self, first: int, last: int, error: RedisQError) -> str:
        self.read = first - 1
        if isinstance(error, Indeterminate):  # whose own text is about calling again with the same ids
            return f"Redis was lost: of lines {first:,} to {last:,} some may be queued, of later ones none."
        return f"Stopped at line {first:,}: {output.spelled(error)}"


def queue_lines(
    mq: RedisQ,
    queue: str,
    token: str | None,
    source: str,
    made: Callable[[Any], Any],
    *,
    stop_on_error: bool,
    ids: bool,
) -> Feed:
    """Queue each line of a file, or of stdin for "-": what is `made` of its document; give what was counted.

    Raises:
        CommandError: the file cannot be read.
    """
    feed = Feed(mq, queue, token, made, stop_on_error=stop_on_error, ids=ids)
    try:
        with (
            nullcontext(streams.stdin()) if source == "-" else open(source, "rb") as stream,
            closing(Bar(stream, ids)) as bar,
        ):
            for batch in batches(stream):  # type: ignore[arg-type]
                feed.send(batch)
                bar.show(batch.size, feed.queued)
                if feed.halted:
                    break
    except OSError as error:
        name = "Standard input" if source == "-" else source
        came = f" That was {feed.told()}" if feed.read else ""
        raise output.CommandError(streams.unreadable(error, name) + came) from None
    except output.OutputLost as error:
        raise output.OutputLost(f"{error} That was {feed.told()}") from None
    except KeyboardInterrupt:
        output.complain(f"Interrupted {feed.told()}")
        raise
    return feed


class Bar:
    """Shows on a terminal how far it is; elsewhere nothing."""

    def __init__(self, stream: io.BufferedIOBase | Any, ids: bool) -> None:
        self._progress: Progress | None = None
        if sys.stderr.isatty() and not (ids and sys.stdout.isatty()):
            self._progress = _progress()
            self._progress.start()
            self._task = self._progress.add_task("", total=_length(stream), queued=0, rate=0.0)

    def close(self) -> None:
        """Stop showing it."""
        if self._progress is not None:
            self._progress.stop()

    def show(self, size: int, queued: int) -> None:
        """Show that so many bytes were read, and so many messages queued."""
        if self._progress is not None:
            elapsed = self._progress.tasks[0].elapsed or 0.0
            rate = queued / elapsed if elapsed else 0.0
            self._progress.update(self._task, completed=size, queued=queued, rate=rate)


def _length(stream: Any) -> int | None:
    """Return the bytes there are to read, None when only the end will tell."""
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.fields[queued]:,} queued"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,  # which may go elsewhere
    )
