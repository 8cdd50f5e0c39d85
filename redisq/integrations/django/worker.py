"""The worker that runs tasks, each in a thread with connections to the database that are as good as a request's."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import close_old_connections, reset_queries
from django.utils import timezone

from redisq.errors import InvalidArgument
from redisq.integrations.django.backend import RedisQBackend
from redisq.integrations.django.call import Call
from redisq.integrations.django.tasks import base, normalize_json, registry, signals
from redisq.worker import Delivery, Reject, Worker


def make_worker(backend: str = "default", queues: Sequence[str] = (), *, concurrency: int = 10) -> Worker:
    """Make the worker of a backend's tasks, in all its QUEUES or in those named; `concurrency` is how many at once.

    It may get schedules, and handlers of other queues, and run by `redisq worker module:worker`, too, where the module
    has called `django.setup()`.

    Raises:
        InvalidArgument: there is no such backend of redisq, or none of its queues is named.
        InvalidSettings, InvalidCredentials: its OPTIONS, or the environment's settings, are not valid.
    """
    if backend not in registry.task_backends.settings:
        raise InvalidArgument(f"TASKS has no backend {backend[:40]!r}")
    chosen = registry.task_backends[backend]
    if not isinstance(chosen, RedisQBackend):
        raise InvalidArgument(f"TASKS[{backend!r}] is no RedisQBackend, but a {type(chosen).__name__}")
    names = list(queues) or sorted(chosen.queues)
    if not names:
        raise InvalidArgument(f"TASKS[{backend!r}] takes any queue, as its QUEUES are empty: name those to work on")
    if chosen.queues and (unknown := set(names) - chosen.queues):
        raise InvalidArgument(f"TASKS[{backend!r}] has no queue {min(unknown)[:40]!r} among its QUEUES")
    worker = Worker(settings=chosen.settings, concurrency=concurrency)

    def run(delivery: Delivery, call: Call) -> Any:
        with _good_connections():
            return _run(chosen, delivery, call)

    for name in dict.fromkeys(names):
        worker.handler(name, concurrency=concurrency)(run)
    return worker


@contextlib.contextmanager
def _good_connections() -> Iterator[None]:
    """Do for a task what Django does for a request, in this thread: close connections that are old or broken."""
    reset_queries()
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()


def _run(backend: RedisQBackend, delivery: Delivery, call: Call) -> Any:
    task = call.resolve(delivery.queue, backend.alias)
    result = backend.result(*(task, delivery.id, "RUNNING", call), started_at=timezone.now(), attempts=delivery.attempt)
    signals.task_started.send_robust(type(backend), task_result=result)
    context = [base.TaskContext(task_result=result)] if task.takes_context else []
    try:
        value = _json(task.call(*context, *call.args, **call.kwargs))
    except BaseException as error:
        if delivery.is_last_attempt or isinstance(error, Reject):
            result.errors.append(_error_of(error))
            _finish(backend, result, "FAILED")  # within the handling of the error, which Django's log shows
        raise
    _finish(backend, result, "SUCCESSFUL")
    return value


def _json(value: Any) -> Any:
    try:
        return normalize_json(value)
    except (TypeError, ValueError) as error:
        raise Reject(f"What the task returned cannot be JSON: {error}") from None


def _error_of(error: BaseException) -> Any:
    """Show what a task raised as Django's own backends do."""
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return base.TaskError(exception_class_path=name, traceback="".join(traceback.format_exception(error)))


def _finish(backend: RedisQBackend, result: Any, status: str) -> None:
    """Tell Django's signal. A receiver that raises is logged: what the task has done is done."""
    object.__setattr__(result, "status", base.TaskResultStatus[status])
    object.__setattr__(result, "finished_at", timezone.now())
    signals.task_finished.send_robust(type(backend), task_result=result)
