"""The pages that show something: all queues, one queue, one message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from redisq import async_client
from redisq.gateway.access.guard import sees_tracebacks
from redisq.gateway.context import Context
from redisq.gateway.page import charts, formats
from redisq.gateway.page.history import EVERY, History, Rates, Sample, rates_of
from redisq.gateway.page.responses import Pages
from redisq.gateway.page.session import ROOT, Visitor
from redisq.model.listing import Page
from redisq.model.message import Message, Status, Transition
from redisq.model.queue import QueueStats
from redisq.operations import queues
from redisq.store.keys import known_id

_QUEUES = 50  # on one page; so many are asked about at once
_LISTED = 25  # messages on one page
_SPARK = 300.0  # seconds of a sparkline
_RANGES = {"5": 300.0, "15": 900.0, "60": 3600.0}
_LISTS = {
    "ready": "Ready",
    "scheduled": "Scheduled",
    "in_progress": "In progress",
    "dead": "Dead",
    "finished": "Complete",
}
_DEPTHS = (("Ready", "a", 1), ("In progress", "e", 3), ("Scheduled", "c", 2))
_SETTINGS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "lease": ("Lease", formats.duration),
    "max_attempts": ("Attempts at most", formats.number),
    "max_lost": ("Lost leases at most", formats.number),
    "backoff_base": ("First backoff", formats.duration),
    "backoff_cap": ("Longest backoff", formats.duration),
    "max_bytes": ("Largest message", formats.size),
    "max_length": ("Waiting at most", lambda most: formats.number(most) if most else "no limit"),
    "retention": ("Retention", formats.duration),
    "dead_retention": ("Retention of dead letters", formats.duration),
    "dedup_window": ("Deduplication window", formats.duration),
}
_NEVER = datetime.max.replace(tzinfo=UTC)
_STYLES = dict.fromkeys(("failed", "rejected", "unreadable", "lost", "expired"), "bad")
_SPEEDS = (("Queued", "a", 1), ("Completed", "b", 2), ("Failed or lost", "d", 3))


class _Step(NamedTuple):
    """Something that happened to a message."""

    at: datetime | None
    what: str
    attempt: int = 0
    by: str = ""
    style: str = ""
    error: Mapping[str, str] | None = None


class Views:
    """Answers with what there is to see."""

    def __init__(self, context: Context, pages: Pages, history: History) -> None:
        self._mq = context.acting_for("")  # the guard has been passed before it is asked for anything
        self._settings = context.settings
        self._pages = pages
        self._history = history

    async def queues(self, request: Request, visitor: Visitor, _: str) -> Response:
        """Show the queues that the token may see, some on each page."""
        names = [name for name in await self._mq.queues() if visitor.allows("stats", name)]
        sought = request.query_params.get("q", "")[:128]
        found = [name for name in names if sought.lower() in name.lower()]
        number = _number(request.query_params.get("page"), 1, max(1, -(-len(found) // _QUEUES)))
        chosen = found[(number - 1) * _QUEUES : number * _QUEUES]
        rows = [self._row(stats) for stats in await self._history.look(chosen)]
        last = number * _QUEUES >= len(found)
        paging = {"number": number, "last": last, "count": len(found), "all": len(names), "sought": sought}
        values = {"rows": rows, "totals": _totals(rows), "paging": paging}
        return self._pages.show(request, "queues.html", visitor, values)

    async def queue(self, request: Request, visitor: Visitor, queue: str) -> Response:
        """Show one queue: figures, charts, a list of messages, its definition."""
        span = request.query_params.get("range", "5")
        span = span if span in _RANGES else "5"
        may = partial(visitor.allows, "stats")  # of now: something may just have been done
        stats = await async_client.run(self._mq, lambda known: queues.stats_of_existing(known, queue, None, may))
        await self._history.look([queue])
        chosen = request.query_params.get("list", "")
        chosen = chosen if chosen in _LISTS else _fullest(stats)
        lists = [(word, name, getattr(stats, word)) for word, name in _LISTS.items()]
        lists[-1] = ("finished", _LISTS["finished"], stats.finished - stats.dead)
        values = {
            "queue": queue,
            "row": self._row(stats),
            "lists": lists,
            "chosen": chosen,
            "page": await self._listed(request, visitor, queue, chosen),
            "later": "after" in request.query_params,
            "now": datetime.now(UTC),
            "charts": self._charts(queue, _RANGES[span]),
            "ranges": list(_RANGES),
            "range": span,
            "definition": await self._definition(queue),
        }
        return self._pages.show(request, "queue.html", visitor, values)

    async def message(self, request: Request, visitor: Visitor, queue: str) -> Response:
        """Show one message with all that is known of it."""
        message = await self._mq.get_message(queue, request.path_params["id"])
        values = {"queue": queue, "message": message, "steps": _life(message)}
        values["traced"] = sees_tracebacks(visitor, queue)
        values["dead"] = message.status is Status.ERROR and (message.error or {}).get("reason") != "cancelled"
        return self._pages.show(request, "message.html", visitor, values)

    async def find(self, request: Request, _: Visitor, queue: str) -> Response:
        """Go to the message of an id that was typed."""
        id = request.query_params.get("id", "").strip().lower()
        known_id(id)
        return self._pages.go(request, f"{ROOT}/queues/{queue}/messages/{id}")

    async def _listed(self, request: Request, visitor: Visitor, queue: str, which: Any) -> Page | None:
        """Return a page of a list; None for who may not see it."""
        if not visitor.allows("get", queue):
            return None
        cursor = request.query_params.get("after") or None
        try:
            return await self._mq.list_messages(queue, which, cursor=cursor, limit=_LISTED)
        except ValueError:  # a cursor of another list, or none at all
            return await self._mq.list_messages(queue, which, limit=_LISTED)

    async def _definition(self, queue: str) -> list[tuple[str, str, bool]]:
        """Return the settings in force as a person reads them, each with whether it is the queue's own."""
        own = await self._mq.define(queue)
        found = []
        for name, (label, shown_as) in _SETTINGS.items():
            value = getattr(own, name)
            in_force = getattr(self._settings, name) if value is None else value
            found.append((label, shown_as(in_force), value is not None))
        return found

    def _row(self, stats: QueueStats) -> dict[str, Any]:
        """Return a queue's figures with its rates of now and its sparkline."""
        samples, now = self._history.fine(stats.queue), self._history.now()
        rates = rates_of(samples, EVERY)
        line = charts.sparkline([(sample.at, sample.ready) for sample in samples], _SPARK, now)
        done = charts.sparkline([(rate.at, rate.completed) for rate in rates], _SPARK, now)
        return {"stats": stats, "rates": _latest(samples), "spark": line, "done": done, "peak": _peak(samples)}

    def _charts(self, queue: str, seconds: float) -> list[charts.Chart]:
        fine = seconds <= _SPARK
        samples = self._history.fine(queue) if fine else self._history.coarse(queue)
        rates, now = rates_of(samples, EVERY if fine else 5 * EVERY), self._history.now()
        depth = [
            (name, style, [(sample.at, float(sample[index])) for sample in samples]) for name, style, index in _DEPTHS
        ]
        speed = [(name, style, [(rate.at, rate[index]) for rate in rates]) for name, style, index in _SPEEDS]
        return [
            charts.chart("Depth", "messages", depth, seconds, now, least=4.0),
            charts.chart("Throughput", "per second", speed, seconds, now),
        ]


def _latest(samples: Sequence[Sample]) -> Rates:
    """Return the rates of the last ten seconds or so: of two seconds they would jump."""
    some = samples[-6:]
    if len(some) < 2:
        return Rates(0.0, None, None, None)
    return rates_of([some[0], some[-1]], EVERY * len(some))[0]


def _peak(samples: Sequence[Sample]) -> int:
    return max((sample.ready for sample in samples), default=0)


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Add up what the queues of a page hold."""
    names = ("ready", "in_progress", "dead")
    totals: dict[str, float] = {name: sum(getattr(row["stats"], name) for row in rows) for name in names}
    for index, name in enumerate(("queued", "completed", "failed"), 1):
        totals[name] = sum(row["rates"][index] or 0.0 for row in rows)
    return totals


def _fullest(stats: QueueStats) -> str:
    """Choose the list that somebody who comes here most likely wants."""
    return next((word for word in ("ready", "in_progress", "dead", "scheduled") if getattr(stats, word)), "finished")


def _life(message: Message) -> list[_Step]:
    """Return what happened to a message, in the order of time, and how it stands now."""
    steps: list[_Step] = [_Step(message.queued_at, "Queued")]
    steps += [
        _Step(past.at, _times(past), past.attempt, past.by, _STYLES.get(past.event, ""), past.error)
        for past in message.history
    ]
    running = "now" if message.status is Status.INPROGRESS else ""
    steps.append(_Step(message.started_at, "Started", message.attempts, "", running))
    if message.status is Status.PENDING and message.available_at != message.queued_at:
        steps.append(_Step(message.available_at, "Available", 0, "", "now"))
    ended, style = ("Complete", "good") if message.status is Status.COMPLETE else ("Error", "bad")
    steps.append(_Step(message.expires_at, "Expires" if not message.finished else "Would have expired"))
    steps.append(_Step(message.finished_at, ended, message.attempts, "", style))
    return sorted((step for step in steps if step.at is not None), key=lambda step: step.at or _NEVER)


def _times(past: Transition) -> str:
    return past.event.capitalize() + f" {past.count:,} times" * (past.count > 1)


def _number(text: str | None, low: int, high: int) -> int:
    """Read the number of a page; an invalid one is the nearest."""
    number = int(text) if text and text.isascii() and text.isdecimal() and len(text) < 7 else low
    return min(max(number, low), high)
