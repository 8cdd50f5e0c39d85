"""Dead letters and the life of a message on the command line."""

from __future__ import annotations

import json
import re
import typing

import pytest

from redisq import RedisQ
from redisq.cli.commands import dead
from redisq.operations import dead_letters
from tests.conftest import CREDENTIALS
from tests.support.shell import Shell
from tests.system.test_cli_queues import Terminal

pytestmark = pytest.mark.system

UNKNOWN = "05749898-74a0-47e1-b10d-5acf29d040c4"


def work(shell: Shell) -> None:
    """Let a worker do what is there; what fails is dead at once."""
    assert shell.run("worker", "shop:worker", "--burst", REDISQ_MAX_ATTEMPTS="1").returncode == 0


def die(shell: Shell, producer: RedisQ, count: int = 1) -> list[str]:
    """Let messages die in `orders`, and give their ids in the order of the list."""
    ids = [producer.queue_message("orders", {"fail": True, "n": n}) for n in range(count)]
    work(shell)
    listed = [message.id for message in producer.dead_letters("orders")]
    return sorted(ids, key=listed.index)


def test_help_names_the_commands(shell: Shell) -> None:
    for command in ("list", "show", "redrive", "purge"):
        assert re.search(rf"^\W*{command}\s", shell.text("dead", "--help"), re.MULTILINE)


def test_it_knows_every_reason() -> None:
    one_of_them, _ = typing.get_args(typing.get_args(dead.Reason)[0])
    assert typing.get_args(one_of_them) == dead_letters.REASONS


# --- Looking ---


@pytest.mark.full
def test_list_shows_a_row_for_each(shell: Shell, producer: RedisQ) -> None:
    first, second = die(shell, producer, 2)
    lines = shell.text("dead", "list", "orders").splitlines()
    header, _, *rows = [line.strip().split(maxsplit=4) for line in lines]
    assert header == ["id", "died", "reason", "attempts", "error"]
    assert [row[0] for row in rows] == [first, second]
    for row in rows:
        assert re.fullmatch(r"\d+[smhd]", row[1])
        assert row[2:] == ["failed", "1", r"ValueError: told to \x1b[31mfail"]


@pytest.mark.full
def test_list_chooses(shell: Shell, producer: RedisQ) -> None:
    ids = die(shell, producer, 3)
    producer.queue_message("orders", {"price": 1})

    def listed(*arguments: str) -> list[str]:
        found = shell.json("dead", "list", "orders", *arguments)
        assert found["queue"] == "orders"
        return [message["id"] for message in found["dead_letters"]]

    assert listed() == listed("--reason", "failed", "--younger-than", "1h", "--older-than", "0") == ids
    assert listed("--reason", "rejected") == listed("--older-than", "15m") == listed("--older-than=2d") == []
    assert listed("--limit", "2") == ids[:2]
    shown = shell.text("dead", "list", "orders", "--limit", "2")
    assert ids[2] not in shown
    assert shown.endswith("These are the oldest 2; there may be more: --limit N.")
    assert "--limit" not in shell.text("dead", "list", "orders")
    assert shell.text("dead", "list", "orders", "--reason", "lost") == "There are none."
    (message,) = shell.json("dead", "list", "orders", "--limit", "1")["dead_letters"]
    assert (message["status"], message["request"]["fail"], message["error"]["reason"]) == ("ERROR", True, "failed")


@pytest.mark.full
def test_list_cuts_the_error_to_the_terminal(shell: Shell, producer: RedisQ) -> None:
    (id,) = die(shell, producer)
    terminal = Terminal(shell, "dead", "list", "orders")
    assert terminal.wait() == 0
    assert "\\x1b[31mfail" in terminal.shown  # 120 columns are enough
    narrow = Terminal(shell, "dead", "list", "orders", columns=70)
    assert narrow.wait() == 0
    (row,) = [line for line in narrow.shown.splitlines() if id in line]
    assert re.search(rf"{id} .* failed +1 +\w+…", row)


def test_show_tells_all_of_one(shell: Shell, producer: RedisQ) -> None:
    (id,) = die(shell, producer)
    done = producer.queue_message("orders", {"price": 1})
    work(shell)
    shown = shell.text("dead", "show", "orders", id)
    described = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert described["ERROR"] == f"{id} in orders"
    assert described["request"] == '{"fail": true, "n": 0}'
    assert re.fullmatch(r"20\S+Z  failed  attempt 1  by \S+  ValueError: told to \\x1b\[31mfail", described["history"])
    assert "\x1b" not in shown
    assert shell.json("dead", "show", "orders", id) == shell.json("get", "orders", id)
    assert shell.error("dead", "show", "orders", done) == "The message is no dead letter: it is COMPLETE."
    assert "no message with this id" in shell.error("dead", "show", "orders", UNKNOWN)


def test_get_sums_the_history_up(shell: Shell, producer: RedisQ) -> None:
    (id,) = die(shell, producer)
    assert re.search(r"^history +failed$", shell.text("get", "orders", id), re.MULTILINE)
    shell.text("dead", "redrive", "orders", id)
    work(shell)
    assert re.search(r"^history +failed, redriven, failed$", shell.text("get", "orders", id), re.MULTILINE)
    done = producer.queue_message("orders", {"price": 1})
    work(shell)
    assert "history" not in shell.text("get", "orders", done)


# --- Redriving, purging ---


@pytest.mark.full
def test_redrive_by_ids_by_filter_and_all(shell: Shell, producer: RedisQ) -> None:
    first, second, third, fourth = die(shell, producer, 4)
    assert shell.text("dead", "redrive", "orders", first, second) == "redriven 2"
    assert shell.json("dead", "redrive", "orders", "--reason", "lost") == {"queue": "orders", "redriven": 0}
    assert shell.json("dead", "redrive", "orders", third) == {"queue": "orders", "redriven": 1}
    assert shell.text("dead", "redrive", "orders", "--reason", "failed", "--younger-than", "1d") == "redriven 1"
    assert {producer.get_message("orders", id).status for id in (first, second, third, fourth)} == {"PENDING"}
    work(shell)
    assert shell.text("dead", "redrive", "orders", "--all") == "redriven 4"
    assert producer.get_message("orders", fourth).history[-1].by == CREDENTIALS.app


def test_ids_of_no_dead_letters_are_named_and_the_others_done(shell: Shell, producer: RedisQ) -> None:
    first, second = die(shell, producer, 2)
    waiting = producer.queue_message("orders", {"price": 1})
    told = shell.error("dead", "redrive", "orders", waiting, first, "x\x1b[2J", "--json")
    assert told.startswith("redriven 1, but these are no dead letters of orders")
    assert told.endswith(rf": {waiting}, x\x1b[2J")
    told = shell.error("dead", "purge", "orders", second, *(f"{n}" for n in range(12)), "--yes")
    assert told.startswith("purged 1, but")
    assert told.endswith(": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more")
    assert producer.stats("orders").dead == 0


@pytest.mark.full
def test_purge_by_ids_by_filter_and_all(shell: Shell, producer: RedisQ) -> None:
    first, *_ = die(shell, producer, 4)
    assert shell.text("dead", "purge", "orders", first, "--yes") == "purged 1"
    assert "no message with this id" in shell.error("get", "orders", first)
    assert shell.json("dead", "purge", "orders", "--older-than", "1h", "-y") == {"queue": "orders", "purged": 0}
    assert shell.text("dead", "purge", "orders", "--reason", "failed", "--yes") == "purged 3"
    die(shell, producer)
    assert shell.text("dead", "purge", "orders", "--all", "-y") == "purged 1"


def test_purge_without_a_terminal_wants_yes(shell: Shell, producer: RedisQ) -> None:
    first, second, _ = die(shell, producer, 3)
    told = shell.error("dead", "purge", "orders", "--all")
    assert told.startswith("This removes the 3 dead letters of orders for good.")
    assert told.endswith("add --yes.")
    told = shell.error("dead", "purge", "orders", first, second, first)
    assert told.startswith("This removes the 2 dead letters of orders for good.")
    told = shell.error("dead", "purge", "orders", "--reason", "failed")
    assert told.startswith("This removes those of the 3 dead letters of orders that the options choose for good.")
    assert producer.stats("orders").dead == 3


@pytest.mark.full(keep=1)
@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("\n", 1)])
def test_purge_asks_on_a_terminal(shell: Shell, producer: RedisQ, answer: str, left: int) -> None:
    die(shell, producer)
    terminal = Terminal(shell, "dead", "purge", "orders", "--all")
    terminal.read_to("Go on? [y/N] ")
    terminal.type(answer)
    assert terminal.wait() == left
    assert ("purged 1" in terminal.shown) == (not left)
    assert producer.stats("orders").dead == left


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive", "orders"],
        ["purge", "orders"],
        ["purge", "orders", "--yes"],
        ["redrive", "orders", UNKNOWN, "--all"],
        ["redrive", "orders", UNKNOWN, "--reason", "failed"],
        ["purge", "orders", "--all", "--older-than", "1h", "--yes"],
        ["redrive", "orders", "--reason", "bored"],
        ["list", "orders", "--older-than", "1y"],
        ["list", "orders", "--older-than", "h"],
        ["list", "orders", "--younger-than=-1"],
        ["list", "orders", "--younger-than", "366d"],
        ["list", "orders", "--limit", "0"],
        ["list", "orders", "--limit", "10001"],
        ["show", "orders"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(shell: Shell, arguments: list[str]) -> None:
    done = shell.run("dead", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: redisq dead" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["redrive", "--all"], ["purge", "--all", "--yes"]], ids=" ".join)
def test_a_queue_that_does_not_exist(shell: Shell, producer: RedisQ, arguments: list[str]) -> None:
    producer.queue_message("orders", 1)
    command, *others = arguments
    assert shell.error("dead", command, "ordres", *others) == "There is no queue ordres. Did you mean orders?"
    assert "queue name" in shell.error("dead", command, "a b", *others)


def test_they_want_admin_and_a_look_at_one_wants_get(shell: Shell, producer: RedisQ) -> None:
    (id,) = die(shell, producer)
    reader = shell.text("token", "create", "--op", "get", "--queue", "orders")
    for arguments in (["list"], ["redrive", "--all"], ["purge", "--all", "--yes"]):
        command, *others = arguments
        assert "does not allow admin" in shell.error("dead", command, "orders", *others, "--token", reader)
    assert shell.json("dead", "show", "orders", id, "--token", reader)["id"] == id
    assert shell.json("trace", "orders", id, "--token", reader)["id"] == id
    keeper = shell.text("token", "create", "--op", "admin", "--queue", "orders")
    assert shell.text("dead", "redrive", "orders", "--all", "--token", keeper) == "redriven 1"
    assert "does not allow get" in shell.error("trace", "orders", id, "--token", keeper)


# --- The life of a message ---


def test_trace_tells_the_life_of_a_message(shell: Shell, producer: RedisQ) -> None:
    id = producer.queue_message("orders", {"price": 4})
    lines = shell.text("trace", "orders", id).splitlines()
    assert lines[0].split() == ["PENDING", id, "in", "orders"]
    assert [line.split()[1] for line in lines[1:]] == ["queued", "available"]
    work(shell)
    head, *steps = shell.text("trace", "orders", id).splitlines()
    assert head.split()[0] == "COMPLETE"
    assert [line.split()[1:] for line in steps] == [
        ["queued"],
        ["started", "attempt", "1"],
        ["complete", "attempt", "1"],
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  ", line) for line in steps)


def test_trace_tells_of_failures_and_redrives(shell: Shell, producer: RedisQ) -> None:
    (id,) = die(shell, producer)
    shell.text("dead", "redrive", "orders", id)
    work(shell)
    found = shell.json("trace", "orders", id)
    assert {name: found[name] for name in ("id", "queue", "status", "truncated")} == {
        "id": id,
        "queue": "orders",
        "status": "ERROR",
        "truncated": False,
    }
    events = [(step["event"], step["attempt"]) for step in found["steps"]]
    assert events == [("queued", None), ("failed", 1), ("redriven", 1), ("started", 2), ("failed", 2), ("error", 2)]
    assert found["steps"][2]["by"] == CREDENTIALS.app
    assert found["steps"][-1]["error"]["message"] == "told to \x1b[31mfail"
    lines = shell.text("trace", "orders", id).splitlines()
    assert lines[-1].endswith(r"failed: ValueError: told to \x1b[31mfail")
    assert "\x1b" not in "".join(lines)
    assert re.search(rf"redriven  attempt 1  by {CREDENTIALS.app}$", lines[3])


def test_trace_prints_no_body_and_says_what_it_cannot_find(shell: Shell, producer: RedisQ) -> None:
    id = producer.queue_message("orders", {"price": 4111, "card": "secret"})
    work(shell)
    for shown in (shell.text("trace", "orders", id), json.dumps(shell.json("trace", "orders", id))):
        assert not re.search("4111|secret|8222", shown)
    assert "no message with this id" in shell.error("trace", "orders", UNKNOWN)
    assert "UUID" in shell.error("trace", "orders", "x")
    assert "queue name" in shell.error("trace", "a b", id)
