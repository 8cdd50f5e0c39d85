"""Completion in shells: the scripts, and what they ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from redisq import RedisQ
from redisq.store.keys import queues_key
from tests.support.shell import TIMEOUT, Shell

pytestmark = pytest.mark.system

T = TypeVar("T")


def completed(shell: Shell, line: str, **environment: str) -> list[str]:
    """What bash is offered for the last word of a command line."""
    words = line.split(" ")
    asked = {"_REDISQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = shell.run("", **asked, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def enter(producer: RedisQ, *names: str) -> None:
    """Write to the registry, as whoever may write to this Redis can."""
    with redis.Redis.from_url(producer.settings.url) as raw:
        raw.hset(queues_key(producer.settings.namespace), mapping=dict.fromkeys(names, "1"))


def pressed(press: Callable[[], T]) -> T:
    """Press the Tab key until there is an answer: it waits a second for Redis, which is little on a busy machine."""
    for _ in range(10):
        if shown := press():
            break
    return shown


@pytest.mark.parametrize(
    ("name", "text"),
    [("bash", "complete -o default -F"), ("zsh", "#compdef redisq"), ("fish", "complete --command redisq")],
)
def test_the_script_of_each_shell(shell: Shell, name: str, text: str) -> None:
    script = shell.text("--show-completion", name)
    assert text in script
    assert f"_REDISQ_COMPLETE=complete_{name}" in script
    if program := shutil.which(name):
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=TIMEOUT)


def test_it_is_installed_for_a_user(shell: Shell) -> None:
    text = shell.text("--install-completion", "bash", HOME=str(shell.folder))
    file = shell.folder / ".bash_completions" / "redisq.sh"
    assert str(file) in text.replace("\n", "")
    assert file.read_text().strip() == shell.text("--show-completion", "bash")
    assert str(file) in (shell.folder / ".bashrc").read_text()


@pytest.mark.parametrize("option", ["--show-completion", "--install-completion"])
def test_another_shell_is_wrong_usage(shell: Shell, option: str) -> None:
    for arguments in ([option, "cmd"], [option]):
        done = shell.run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")


def test_commands_and_options_are_completed(shell: Shell) -> None:
    assert completed(shell, "redisq st") == ["stats"]
    assert set(completed(shell, "redisq queues ")) == {
        "list",
        "show",
        "define",
        "pause",
        "resume",
        "purge",
        "drop",
    }
    assert completed(shell, "redisq worker --log-f") == ["--log-format"]
    assert completed(shell, "redisq worker --log-format j") == ["json"]


def test_queues_are_completed_from_redis(shell: Shell, producer: RedisQ) -> None:
    for queue in ("orders", "orders.eu", "mail"):
        producer.queue_message(queue, 1)
    enter(producer, "or\nFORGED", "orders $(id)")
    for command in ("queue", "get", "cancel", "delete", "stats", "sweep", "queues show", "queues drop --yes"):
        assert pressed(partial(completed, shell, f"redisq {command} or")) == ["orders", "orders.eu"]
    url = shell.environment.pop("REDISQ_URL")
    assert pressed(partial(completed, shell, f"redisq stats --url {url} m")) == ["mail"]


@pytest.mark.parametrize(
    "environment",
    [
        {"REDISQ_URL": "redis://127.0.0.1:1"},
        {"REDISQ_URL": "http://x"},
        {"REDISQ_URL": "embedded://"},
        {"REDISQ_APP_SECRET": "short"},
        {"REDISQ_LEASE": "x"},
    ],
    ids=str,
)
def test_without_an_answer_nothing_is_said(shell: Shell, producer: RedisQ, environment: dict[str, str]) -> None:
    producer.queue_message("orders", 1)
    assert completed(shell, "redisq stats or", **environment) == []


def test_a_server_that_never_answers_is_not_waited_for(shell: Shell) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "redisq"]
        asked = {"_REDISQ_COMPLETE": "complete_bash", "COMP_WORDS": "redisq stats or", "COMP_CWORD": "2"}
        slow = {"REDISQ_URL": url, "REDISQ_COMMAND_TIMEOUT": "3600"}
        done = subprocess.run(command, env={**shell.environment, **asked, **slow}, capture_output=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"", b"")


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes(shell: Shell, producer: RedisQ) -> None:
    producer.queue_message("orders", 1)
    program = shell.folder / "bin" / "redisq"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m redisq "$@"\n')
    program.chmod(0o755)
    script = shell.text("--show-completion", "bash")
    ask = "COMP_WORDS=(redisq stats or); COMP_CWORD=2; _redisq_completion redisq; echo ${COMPREPLY[@]}"
    path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"

    def press() -> str:
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{ask}"],
            env={**shell.environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.stderr == ""
        return done.stdout.strip()

    assert pressed(press) == "orders"
