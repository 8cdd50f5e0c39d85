"""The backend: tasks that are enqueued become messages, and messages are shown as results."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.utils import timezone
from pydantic import ValidationError

from redisq.client import RedisQ
from redisq.errors import InvalidQueueName, MessageNotFound, RedisQError
from redisq.integrations.django.call import Call
from redisq.integrations.django.tasks import backends, base, exceptions, signals
from redisq.model.message import Message
from redisq.settings import Settings
from redisq.store import keys
from redisq.worker import Reject

STATUS = {"PENDING": "READY", "INPROGRESS": "RUNNING", "COMPLETE": "SUCCESSFUL", "ERROR": "FAILED"}

_lock = threading.Lock()
_clients: dict[str, tuple[dict[str, Any], RedisQ]] = {}


class RedisQBackend(backends.BaseTaskBackend):
    """Enqueues tasks as messages: a result's id is `<message's id>@<queue>`.

        TASKS = {"default": {"BACKEND": "redisq.integrations.django.RedisQBackend", "QUEUES": ["default", "mail"]}}

    OPTIONS are settings of redisq by name, in place of the environment's: `{"url": "redis://...", "max_attempts": 3}`.
    A task that fails is tried again as any message is; until it has ended its status is READY or RUNNING.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @property
    def settings(self) -> Settings:
        """The settings of redisq: those of the environment, and OPTIONS.

        Raises:
            InvalidSettings, InvalidCredentials: they are not valid.
        """
        return Settings(**self.options)

    @property
    def client(self) -> RedisQ:
        """The client of this backend, one for all threads: Django makes a backend for each."""
        with _lock:
            options, client = _clients.get(self.alias, (None, None))
            if client is None or options != self.options:
                client = RedisQ(settings=self.settings)
                _clients[self.alias] = dict(self.options), client
            return client

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Queue a task's message. In a transaction of the database it does not wait for the commit: see on_commit.

        Raises:
            InvalidTask: it is none for this backend, as Django says.
            TypeError, ValueError: an argument is nothing that JSON could hold.
            RedisQError: as queue_message.
        """
        self.validate_task(task)
        call = Call.of(task, args, kwargs)
        id = self.client.queue_message(task.queue_name, call.request, at=call.run_after, priority=call.message_priority)
        result = self.result(task, id, "READY", call, enqueued_at=timezone.now())
        signals.task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Look a task up by its result's id.

        Raises:
            TaskResultDoesNotExist: there is no such message, any more, or it is no task's.
            ImportError: its task is not in this process' code.
            RedisQError: as get_message.
        """
        id, _, queue = str(result_id).partition("@")
        try:
            message = self.client.get_message(queue, id)
            call = Call.model_validate(message.request)
            task = call.resolve(queue, self.alias)
        except (MessageNotFound, InvalidQueueName, ValidationError, Reject):
            raise exceptions.TaskResultDoesNotExist(result_id) from None
        return self._shown(message, task, call)

    def _shown(self, message: Message, task: Any, call: Call) -> Any:
        result = self.result(
            *(task, message.id, STATUS[message.status], call),
            enqueued_at=message.queued_at,
            started_at=message.started_at,
            finished_at=message.finished_at,
            attempts=message.attempts,
        )
        known = {passed.attempt: passed.by for passed in message.history}
        result.worker_ids[:] = [known.get(attempt, "") for attempt in range(1, message.attempts + 1)]
        if message.error is not None:
            result.errors.append(_error(message.error))
        elif message.finished:
            object.__setattr__(result, "_return_value", message.result)  # as Django's own backends do
        return result

    def result(self, task: Any, id: str, status: str, call: Call, *, attempts: int = 0, **times: Any) -> Any:
        """Make the result of a task. Django counts attempts by `worker_ids`; "" is one that is not known."""
        started_at = times.get("started_at")
        return base.TaskResult(
            task=task,
            id=f"{id}@{task.queue_name}",
            status=base.TaskResultStatus[status],
            enqueued_at=times.get("enqueued_at"),
            started_at=started_at,
            finished_at=times.get("finished_at"),
            last_attempted_at=started_at,
            args=call.args,
            kwargs=call.kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[""] * attempts,
        )

    def check(self, **_: Any) -> Iterator[Any]:
        """Check names of queues, and OPTIONS, for `manage.py check`."""
        for queue in sorted(self.queues):
            try:
                keys.check_queue_name(queue)
            except InvalidQueueName as error:
                yield checks.Error(f"TASKS[{self.alias!r}]: {error}", id="redisq.E001")
        try:
            Settings(**self.options)
        except RedisQError as error:
            yield checks.Error(f"TASKS[{self.alias!r}]: {error}", id="redisq.E002")


def _error(error: dict[str, str]) -> Any:
    """Show a message's error. It has its class's name without the module: the class is looked for here."""
    traceback = (error.get("traceback") or f"{error['type']}: {error['message']}") + "\n"
    named = {kind for kind in _kinds(BaseException) if kind.__name__ == error["type"]}
    kind = named.pop() if len(named) == 1 else Exception
    return base.TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=traceback)


def _kinds(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for lower in type.__subclasses__(kind):
        yield from _kinds(lower)
