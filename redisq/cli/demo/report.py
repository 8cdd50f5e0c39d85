"""What the demo shows: progress, some messages, and figures at the end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redisq.cli import output, tables
from redisq.cli.demo.files import Totals
from redisq.embedded.server import EmbeddedServer
from redisq.model.message import Message, Status
from redisq.model.queue import QueueStats

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY = 1.0  # seconds between progress lines where there is no terminal
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Figures:
    """What came of the messages. `before` and `after` are one of them; `messages` the others, whose times count.

    `gone` is the error of looking up the one that was deleted, None if it was found.
    """

    server: EmbeddedServer
    before: Message
    after: Message
    messages: Sequence[Message]
    gone: str | None
    expected: Totals

    @property
    def all(self) -> list[Message]:
        """All messages, as they ended."""
        return [self.after, *self.messages]

    def count(self, status: Status) -> int:
        """Count the messages that ended so."""
        return sum(message.status is status for message in self.all)

    @property
    def totals(self) -> Totals:
        """The workers' results added up."""
        return Totals.of(message.result for message in self.all if message.status is Status.COMPLETE)

    @property
    def agree(self) -> bool:
        """Whether the workers counted what there is, all messages finished, and the deleted one is gone."""
        finished = all(message.finished for message in self.all)
        return finished and self.gone is not None and self.totals == self.expected

    @property
    def seconds(self) -> float | None:
        """From the first of `messages` that was queued to the last that completed; None when none did."""
        done = [message.finished_at for message in self.messages if message.status is Status.COMPLETE]
        queued = [message.queued_at for message in self.messages]
        return (max(filter(None, done)) - min(filter(None, queued))).total_seconds() if done else None

    @property
    def rate(self) -> float | None:
        """Completed messages per second."""
        done = sum(message.status is Status.COMPLETE for message in self.messages)
        return done / self.seconds if self.seconds else None

    def latency(self, percent: int) -> float | None:
        """Seconds from queueing to completion that so many percent of the completed messages took at most."""
        took = sorted(
            (message.finished_at - message.queued_at).total_seconds()
            for message in self.messages
            if message.status is Status.COMPLETE and message.finished_at and message.queued_at
        )
        return took[math.ceil(percent / 100 * len(took)) - 1] if took else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready values."""
        failed = next((message for message in self.all if message.status is Status.ERROR), None)
        return {
            "server": {"kind": self.server.kind, "version": self.server.version},
            "messages": len(self.all),
            "completed": self.count(Status.COMPLETE),
            "errors": self.count(Status.ERROR),
            "attempts": sum(message.attempts for message in self.all),
            "seconds": self.seconds,
            "messages_per_second": self.rate and round(self.rate, 1),
            "latency": {f"p{percent}": self.latency(percent) for percent in _PERCENTILES},
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "error": failed and failed.to_dict(),
            "deleted": {"id": self.after.id, "looked_up": self.gone},
            "totals": self.totals.to_dict(),
            "expected": self.expected.to_dict(),
            "agree": self.agree,
        }


class Show:
    """Prints as the demo goes: a live bar on a terminal, lines elsewhere. With `as_json`, one document at the end."""

    def __init__(self, as_json: bool) -> None:
        self._console = output.console()
        self._as_json = as_json
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = 0
        self._told = 0
        self._next_line = 0.0

    def begin(self, server: EmbeddedServer, messages: int, processes: int) -> None:
        """Say what is about to happen."""
        self._total = messages
        self._print(
            f"{messages} file{'s' * (messages != 1)}, one message each, for {processes} worker processes", style="bold"
        )
        self._print(f"through a private {server.kind} {server.version}, which ends with this demo.")

    def progress(self, stats: QueueStats) -> None:
        """Show how far the queue is."""
        if self._as_json:
            return
        failed = f"{stats.failed} attempts failed, {stats.dead} dead"
        if sys.stdout.isatty():
            bar, task = self._opened_bar()
            bar.update(task, completed=stats.finished, description=f"{stats.in_progress} in progress, {failed}")
        elif stats.finished > self._told and (time.monotonic() > self._next_line or stats.finished == self._total):
            self._print(f"{stats.finished} of {self._total} finished, {stats.in_progress} in progress, {failed}")
            self._told, self._next_line = stats.finished, time.monotonic() + _LINE_EVERY

    def message(self, title: str, message: Message) -> None:
        """Show one whole message object."""
        self._print(f"\n{title}", style="bold")
        self._print(output.readable(message.to_dict()) + "\n")

    def error(self, message: Message | None) -> None:
        """Show how one message failed."""
        if message is None or message.error is None:
            self._print("No message failed.", style="bold")
            return
        self._print(f"One that ended as {message.status}, after {message.attempts} attempts:", style="bold")
        self._print(output.printable(f"  file   {message.request['path']}"))
        self._print(output.printable("  error  {type}: {message}".format(**message.error)))

    def deleted(self, id: str, gone: str | None) -> None:
        """Show what looking up a deleted message gave."""
        self._print("\nThe first one, deleted and looked up again:", style="bold")
        self._print(f"  {gone or f'{id} is still there.'}\n")

    def end(self, figures: Figures) -> None:
        """Show the figures."""
        if self._as_json:
            output.document(figures.to_dict())
            return
        tables.show(tables.of_pairs(_rows(figures)))
        self._print(f"The workers counted {figures.totals}.")
        if figures.agree:
            self._print("A direct count agrees.", style="green")
        else:
            self._print(f"A direct count differs: {figures.expected}.", style="red")

    def _print(self, line: str, style: str | None = None) -> None:
        if not self._as_json:
            self.close()
            self._console.print(line, style=style, soft_wrap=True)

    def _opened_bar(self) -> tuple[Progress, TaskID]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if self._bar is None or self._task is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        return self._bar, self._task

    def close(self) -> None:
        """End the bar, if there is one; the next progress begins another."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def _rows(figures: Figures) -> list[tuple[str, str]]:
    return [
        ("messages", f"{len(figures.all):,}"),
        ("completed", f"{figures.count(Status.COMPLETE):,}"),
        ("errors", f"{figures.count(Status.ERROR):,}"),
        ("attempts", f"{sum(message.attempts for message in figures.all):,}"),
        ("seconds", "-" if figures.seconds is None else f"{figures.seconds:,.3f}"),
        ("messages/s", "-" if figures.rate is None else f"{figures.rate:,.0f}"),
        *((f"p{percent} from queueing to completion", _ms(figures.latency(percent))) for percent in _PERCENTILES),
    ]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
