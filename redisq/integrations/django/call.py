"""A task that was enqueued, as the request of its message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from django.utils import timezone
from django.utils.module_loading import import_string
from pydantic import AwareDatetime, BaseModel, ConfigDict

from redisq.integrations.django.tasks import base, normalize_json
from redisq.worker import Reject


class Call(BaseModel):
    """Which task is to be called with what. `priority` and `run_after` are Django's, to show them again."""

    model_config = ConfigDict(extra="forbid")

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    priority: int = 0
    run_after: AwareDatetime | None = None

    @classmethod
    def of(cls, task: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Self:
        """Make the call of a task that is about to be enqueued.

        Raises:
            TypeError, ValueError: an argument is nothing that JSON could hold.
        """
        run_after = task.run_after
        if run_after is not None and timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after)
        return cls(
            task=task.module_path,
            args=normalize_json(args),
            kwargs=normalize_json(kwargs),
            priority=task.priority,
            run_after=run_after,
        )

    @property
    def request(self) -> dict[str, Any]:
        """What its message holds."""
        return self.model_dump(exclude_defaults=True)

    @property
    def message_priority(self) -> int:
        """The priority of its message: Django's -100 to 0 are ordinary, 1 to 100 are 1 to 9."""
        return max(0, -(-self.priority * 9 // 100))

    def resolve(self, queue: str, backend: str) -> Any:
        """Return the task, as it was enqueued. Only tasks are called, nothing else that has a path.

        Raises:
            ImportError: it is not there; perhaps another worker's code has it.
            Reject: what is there is no task.
        """
        found = import_string(self.task)
        if not isinstance(found, base.Task):
            raise Reject("The message's `task` names something that is no task.")
        about = {"queue_name": queue, "backend": backend, "priority": self.priority, "run_after": self.run_after}
        return replace(found, **about)
