"""Django's tasks on redisq: what is enqueued, what runs it, what becomes of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django", reason="Django is not installed: the extra django brings it")

from django.core.management import CommandError, call_command
from django.test import override_settings

from redisq import RedisQ, Settings
from redisq.integrations.django import RedisQBackend, make_worker
from redisq.integrations.django.call import Call
from redisq.integrations.django.tasks import exceptions, registry, signals
from tests.integrations import site, tasks

ROOT = Path(__file__).parents[2]
UNKNOWN = uuid.UUID(int=7, version=4)
MISSING = exceptions.TaskResultDoesNotExist


@pytest.fixture
def set_up(settings: Settings) -> Iterator[Callable[..., None]]:
    """Have Django use redisq, with these OPTIONS beside the server's."""
    given: list[Any] = []

    def choose(queues: tuple[str, ...] = ("default", "mail"), **options: Any) -> None:
        chosen = {"BACKEND": site.BACKEND, "QUEUES": list(queues), "OPTIONS": options}
        given.append(override_settings(TASKS={"default": chosen}))
        given[-1].enable()

    choose(namespace=settings.namespace)
    yield choose
    for one in reversed(given):
        one.disable()


def work(*queues: str) -> None:
    assert asyncio.run(make_worker(queues=queues, concurrency=1).run_async(burst=True)) == 0


@pytest.mark.usefixtures("set_up")
def test_a_task_is_enqueued_run_and_looked_up() -> None:
    result = tasks.add.enqueue(2, right=3)
    assert (result.status, result.args, result.kwargs, result.attempts) == ("READY", [2], {"right": 3}, 0)
    id, _, queue = result.id.partition("@")
    assert (str(uuid.UUID(id)), queue) == (id, "default")
    assert tasks.add.get_result(result.id).status == "READY"
    work()
    result.refresh()
    assert (result.status, result.return_value, result.attempts, result.errors) == ("SUCCESSFUL", 5, 1, [])
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.task == tasks.add


@pytest.mark.usefixtures("set_up")
def test_one_that_is_async_is_run_too() -> None:
    async def enqueue() -> Any:
        return await tasks.add_later.aenqueue(2, 4)

    result = asyncio.run(enqueue())
    work()
    assert tasks.add_later.get_result(result.id).return_value == 6


def test_an_exception_of_the_projects_own_is_found(set_up: Callable[..., None]) -> None:
    set_up(max_attempts=1)
    result = tasks.second_time.enqueue()
    work()
    assert tasks.second_time.get_result(result.id).errors[0].exception_class is tasks.Declined


def test_one_that_fails_is_tried_again(set_up: Callable[..., None]) -> None:
    set_up(backoff_base=0.001)
    result = tasks.second_time.enqueue()
    work()
    result.refresh()
    assert (result.status, result.return_value) == ("SUCCESSFUL", {"attempt": 2, "id": result.id})
    assert result.attempts == 2
    assert result.worker_ids[0]


def test_one_that_fails_for_good_says_why(set_up: Callable[..., None]) -> None:
    set_up(max_attempts=1)
    result = tasks.fail.enqueue()
    work()
    result.refresh()
    assert result.status == "FAILED"
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert 'raise ValueError("out of stock")' in error.traceback
    assert error.traceback.endswith("\nValueError: out of stock\n")
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.usefixtures("set_up")
def test_a_result_that_json_has_nothing_like_ends_the_task() -> None:
    result = tasks.odd_result.enqueue()
    work()
    result.refresh()
    assert (result.status, result.attempts) == ("FAILED", 1)


@pytest.mark.usefixtures("set_up")
def test_a_task_has_its_time_its_queue_and_its_priority(client: RedisQ) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    result = tasks.add.using(queue_name="mail", priority=50, run_after=tomorrow).enqueue(1)
    message = client.get_message("mail", result.id.partition("@")[0])
    assert message.priority == 5
    assert message.available_at is not None
    assert abs(message.available_at - tomorrow) < timedelta(minutes=1)
    assert tasks.add.get_result(result.id).task == result.task


@pytest.mark.parametrize(
    ("djangos", "ours"), [(-100, 0), (-1, 0), (0, 0), (1, 1), (11, 1), (12, 2), (50, 5), (99, 9), (100, 9)]
)
def test_priorities(djangos: int, ours: int) -> None:
    assert Call(task="a.b", args=[], kwargs={}, priority=djangos).message_priority == ours


@pytest.mark.usefixtures("set_up")
def test_what_cannot_be_enqueued_is_not(client: RedisQ) -> None:
    with pytest.raises(TypeError):
        tasks.add.enqueue(object())
    with pytest.raises(Exception, match="'other' is not valid for backend"):
        tasks.add.using(queue_name="other")
    with pytest.raises(Exception, match="module level"):
        tasks.task(lambda: None)
    assert client.stats("default").queued == 0


@pytest.mark.usefixtures("set_up")
def test_only_tasks_are_called(client: RedisQ) -> None:
    here = tasks.__name__
    good = {"args": [], "kwargs": {}}
    requests = [{"task": f"{here}.no_task", **good}, {"task": f"{here}.add", "args": {}}, "text", {}]
    ids = client.queue_messages("default", [*requests, {"task": f"{here}.missing", **good}])
    work()
    *rejected, missing = [client.get_message("default", id) for id in ids]
    assert [message.error and message.error["reason"] for message in rejected] == ["rejected"] * len(requests)
    assert missing.error is not None
    assert (missing.error["type"], missing.finished) == ("ImportError", False)  # another worker may have it
    for id in ids[:-1]:
        with pytest.raises(MISSING):
            registry.default_task_backend.get_result(f"{id}@default")


@pytest.mark.usefixtures("set_up")
@pytest.mark.parametrize("id", ["", "123", "@", "123@default", f"{UNKNOWN}@default", f"{UNKNOWN}@no queue"])
def test_what_is_not_there_does_not_exist(id: str) -> None:
    with pytest.raises(MISSING):
        registry.default_task_backend.get_result(id)


def test_djangos_signals_are_sent(set_up: Callable[..., None]) -> None:
    set_up(max_attempts=2, backoff_base=0.001)
    heard: list[tuple[str, str]] = []

    def hear(sender: type, task_result: Any, **_: Any) -> None:
        assert sender is RedisQBackend
        heard.append((task_result.id, str(task_result.status)))

    sources = (signals.task_enqueued, signals.task_started, signals.task_finished)
    for source in sources:
        source.connect(hear)
    try:
        good, bad = tasks.add.enqueue(1), tasks.fail.enqueue()
        work()
    finally:
        for source in sources:
            source.disconnect(hear)
    of_good, of_bad = ([status for id, status in heard if id == one.id] for one in (good, bad))
    assert of_good == ["READY", "RUNNING", "SUCCESSFUL"]
    assert of_bad == ["READY", "RUNNING", "RUNNING", "FAILED"]  # the first failure is not the end


@pytest.mark.usefixtures("set_up")
def test_no_task_gets_the_connection_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    monkeypatch.setitem(connections.databases["default"], "NAME", str(tmp_path / "file"))  # one in memory stays open
    results = [tasks.connected.enqueue() for _ in range(3)]
    work()
    assert [tasks.connected.get_result(result.id).return_value for result in results] == [False] * 3


@pytest.mark.usefixtures("set_up")
def test_threads_share_a_client() -> None:
    clients: list[RedisQ] = []

    def look() -> None:
        clients.append(registry.task_backends["default"].client)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len(set(map(id, clients))) == 1


def test_manage_check_tells_of_names_and_options(set_up: Callable[..., None]) -> None:
    assert list(registry.default_task_backend.check()) == []
    set_up(("_mail",), url="mysql://nowhere")
    told = list(registry.default_task_backend.check())
    assert [error.id for error in told] == ["redisq.E001", "redisq.E002"]
    assert "_mail" in told[0].msg


@pytest.mark.usefixtures("set_up")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "other"}, "no backend 'other'"),
        ({"queue": ["other"]}, "no queue 'other'"),
        ({"concurrency": 0}, "concurrency takes"),
    ],
)
def test_the_command_says_what_is_wrong(options: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("redisq_worker", verbosity=0, burst=True, **options)


def test_the_command_wants_a_backend_of_redisq(set_up: Callable[..., None]) -> None:
    set_up(())
    with pytest.raises(CommandError, match="name those to work on"):
        call_command("redisq_worker", verbosity=0)
    other = {"default": {"BACKEND": f"{site.HOME}.backends.dummy.DummyBackend"}}
    with override_settings(TASKS=other), pytest.raises(CommandError, match="no RedisQBackend, but a DummyBackend"):
        call_command("redisq_worker", verbosity=0)


MANAGE = """
import os, sys
from django.conf import settings
from django.core.management import execute_from_command_line
from tests.integrations.site import BACKEND, HOME
settings.TASKS = {"default": {"BACKEND": BACKEND}}
execute_from_command_line(sys.argv)
"""


@pytest.mark.usefixtures("set_up")
def test_the_command_works(settings: Settings, tmp_path: Path) -> None:
    result = tasks.add.enqueue(20, right=22)
    (tmp_path / "manage.py").write_text(MANAGE)
    run = subprocess.run(
        [sys.executable, "manage.py", "redisq_worker", "--burst"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert "working on default" in run.stderr
    assert tasks.add.get_result(result.id).return_value == 42
