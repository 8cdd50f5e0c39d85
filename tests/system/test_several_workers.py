"""`redisq worker` with several workers, some of their queues, and other numbers than the code has."""

from __future__ import annotations

import pytest

from tests.support.shell import Shell


def test_several_workers_some_queues_and_another_number(shell: Shell) -> None:
    (shell.folder / "mail.py").write_text(
        "from redisq import Worker\nworker = Worker()\n"
        '@worker.handler("mail")\ndef send(delivery):\n    return delivery.request\n'
    )
    ids = {queue: shell.text("queue", queue, '{"price": 2}') for queue in ("orders", "mail", "slow")}
    chosen = ("--queues", "orders, mail", "--concurrency", "3")
    done = shell.run("worker", "shop:worker", "mail:worker", "shop:worker", "--burst", *chosen)
    assert done.returncode == 0, done.stderr
    found = {queue: shell.json("get", queue, id)["result"] for queue, id in ids.items()}
    assert found == {"orders": {"total": 4}, "mail": {"price": 2}, "slow": None}


@pytest.mark.full
def test_processes_run_what_one_would(shell: Shell) -> None:
    id = shell.text("queue", "orders", '{"price": 2}')
    waiting = shell.text("queue", "slow", "1")
    done = shell.run("worker", "shop:worker", "--burst", "--processes", "2", "--queues", "orders", "--concurrency", "3")
    assert done.returncode == 0, done.stderr
    assert shell.json("get", "orders", id)["result"] == {"total": 4}
    assert shell.json("get", "slow", waiting)["attempts"] == 0


def test_a_queue_without_a_handler_is_named(shell: Shell) -> None:
    told = shell.error("worker", "shop:worker", "--queues", "orders,nope")
    assert told == "No handler is for the queue nope: there are handlers for orders, slow."


@pytest.mark.parametrize(
    "bad", [("--queues", ""), ("--queues", "a,,b"), ("--concurrency", "0"), ("--concurrency", "x")]
)
def test_bad_choices_are_usage_errors(shell: Shell, bad: tuple[str, str]) -> None:
    done = shell.run("worker", "shop:worker", *bad)
    assert (done.returncode, done.stdout) == (2, "")


def test_one_worker_that_is_not_there_ends_all(shell: Shell) -> None:
    assert "has no 'nope'" in shell.error("worker", "shop:worker", "shop:nope")
