"""Managing queues from the command line: definitions, pausing, removing, and watching."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
import redis

from redisq import RedisQ
from redisq.model.bounds import NOT_BUILT_YET
from redisq.model.queue import Definition
from redisq.store.keys import partition_keys
from tests.support.shell import TIMEOUT, Shell
from tests.system.conftest import eventually

pytestmark = pytest.mark.system


class Terminal:
    """A command on a terminal of its own, its output as it comes."""

    def __init__(self, shell: Shell, *arguments: str, columns: int = 120) -> None:
        self._end, other_end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "redisq", *arguments],
            cwd=shell.folder,
            env={**shell.environment, "COLUMNS": str(columns), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
        )
        shell.started.append(self.process)  # type: ignore[arg-type]  # which ends it
        os.close(other_end)
        self.shown = ""

    def read_to(self, text: str) -> None:
        """Read until `text` was shown."""
        while text not in self.shown:
            self.shown += self._read() or pytest.fail(f"it ended without {text!r}: {self.shown}")

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._end, text.encode())

    def wait(self) -> int:
        """Read all that comes and give the exit code."""
        while more := self._read():
            self.shown += more
        os.close(self._end)
        return self.process.wait(TIMEOUT)

    def _read(self) -> str:
        try:
            return os.read(self._end, 65536).decode()
        except OSError:  # the other end is closed
            return ""


# --- Definitions ---


def test_define_shows_what_changes_and_changes_it(shell: Shell, producer: RedisQ) -> None:
    assert shell.text("queues", "define", "orders", "--lease", "60", "--max-attempts=3").splitlines() == [
        "orders is a new queue",
        "  max-attempts    5 (default) -> 3",
        "  lease           30 s (default) -> 60 s",
    ]
    assert producer.define("orders") == Definition(lease=60, max_attempts=3)
    assert shell.text("queues", "define", "orders", "--lease", "default", "--max-attempts", "3").splitlines() == [
        "orders",
        "  lease           60 s -> 30 s (default)",
    ]
    assert producer.define("orders") == Definition(max_attempts=3)
    assert shell.text("queues", "define", "orders", "--max-attempts", "3") == "orders is defined so already."


def test_define_has_an_option_for_every_setting(shell: Shell, producer: RedisQ) -> None:
    (shell.folder / "schema.json").write_text('{"type": "null"}')
    read: dict[str, Any] = {"paused": True, "security": "none", "schema": {"type": "null"}, "check_formats": False}
    given = {"paused": "true", "security": "none", "schema": "schema.json"}
    values = {name: given.get(name, "7") for name in Definition.__dataclass_fields__}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if name != "check_formats"]
    found = shell.json("queues", "define", "orders", *options, "--no-check-formats")
    assert (found["queue"], found["created"]) == ("orders", True)
    assert found["changes"]["backoff_cap"] == {"before": None, "after": 7.0}
    assert found["definition"] == {name: {"value": read.get(name, 7), "own": True} for name in values}
    assert producer.define("orders") == Definition(**{**dict.fromkeys(values, 7), **read})
    producer.define("orders", check_formats=None)  # a flag says only yes or no
    found = shell.json("queues", "define", "orders", *(f"{option.partition('=')[0]}=default" for option in options))
    assert not any(setting["own"] for setting in found["definition"].values())
    assert producer.define("orders") == Definition()


@pytest.mark.parametrize("name", NOT_BUILT_YET)
def test_define_refuses_what_is_not_built_yet(shell: Shell, producer: RedisQ, name: str) -> None:
    told = shell.error("queues", "define", "orders", f"--{name}", "1", "--lease", "60")
    assert told == f"{name} cannot be set yet: {NOT_BUILT_YET[name]}."
    assert producer.queues() == []


def test_define_refuses_bad_values(shell: Shell, producer: RedisQ) -> None:
    assert shell.error("queues", "define", "orders", "--lease", "0") == "lease takes seconds from 0.1 to 86,400."
    assert "whole number from 1" in shell.error("queues", "define", "orders", "--max-attempts=-1", "--lease", "60")
    assert "queue name" in shell.error("queues", "define", "a b", "--lease", "60")
    for arguments in (["--lease", "long"], ["--max-bytes", "1.5"], ["--paused", "yes"], []):
        done = shell.run("queues", "define", "orders", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Usage: redisq queues define" in done.stderr
    assert producer.queues() == []


ORDER = {"type": "object", "required": ["sku"], "title": "\u009b\u202e"}


def test_a_schema_is_read_from_a_file(shell: Shell, producer: RedisQ) -> None:
    (shell.folder / "order.json").write_text(json.dumps(ORDER))
    size = len(json.dumps(ORDER, ensure_ascii=False, separators=(",", ":")).encode())
    assert shell.text("queues", "define", "orders", "--schema", "order.json").splitlines() == [
        "orders is a new queue",
        f"  schema          none (default) -> {size} bytes",
    ]
    assert producer.define("orders").schema == ORDER
    shown = shell.text("queues", "show", "orders")
    assert ["schema", f"{size}", "bytes", "its", "own"] in [line.split() for line in shown.splitlines()]
    assert '"required": [' in shown
    assert "\u009b" not in shown
    assert shell.json("queues", "show", "orders")["definition"]["schema"] == {"value": ORDER, "own": True}
    told = shell.error("queue", "orders", '{"price": 77}')
    assert told == "The message does not fit the queue's schema. $.sku: must be there."
    assert shell.text("queues", "define", "orders", "--schema", "default").splitlines()[1:] == [
        f"  schema          {size} bytes -> none (default)",
    ]
    assert producer.define("orders").schema is None


def test_a_schema_is_read_from_standard_input(shell: Shell, producer: RedisQ) -> None:
    done = shell.run("queues", "define", "orders", "--schema", "-", input=json.dumps(ORDER))
    assert (done.returncode, done.stderr) == (0, "")
    assert producer.define("orders").schema == ORDER


def test_a_schema_that_is_none_is_refused(shell: Shell, producer: RedisQ) -> None:
    for text, told in (
        ('{"type": "objekt"}', "schema: $.type: "),
        ('{"type": "null"', "schema.json is not JSON"),
        ('{"type": "null", "type": "null"}', "schema.json cannot be read: an object has the same key twice"),
        ("[]", "schema takes a JSON Schema"),
        ('{"title": "' + "x" * 70_000 + '"}', "schema: it takes 70,012 bytes"),
        ('{"$ref": "https://example.com"}', "schema: a $ref leaves the document"),
    ):
        (shell.folder / "schema.json").write_text(text)
        assert shell.error("queues", "define", "orders", "--schema", "schema.json", "--lease", "60").startswith(told)
    told = shell.error("queues", "define", "orders", "--schema", "nowhere.json")
    assert told == "nowhere.json cannot be read: No such file or directory."
    assert producer.queues() == []


def test_a_damaged_schema_can_be_taken_away(shell: Shell, producer: RedisQ) -> None:
    producer.define("orders", schema=ORDER)
    with redis.Redis.from_url(producer.settings.url) as raw:
        raw.hset(partition_keys(producer.settings.namespace, "orders").config, "schema", "{")
    assert "The definition of orders is damaged" in shell.error("queue", "orders", "1")
    assert "schema-invalid" in shell.run("doctor").stdout
    shell.text("queues", "define", "orders", "--schema", "default")
    assert shell.run("queue", "orders", "1").returncode == 0


def test_show_tells_the_queues_own_settings_from_defaults(shell: Shell, producer: RedisQ) -> None:
    producer.define("orders", lease=60)
    producer.queue_message("orders", 1)
    found = shell.json("queues", "show", "orders", REDISQ_MAX_ATTEMPTS="9")
    assert found["queue"] == "orders"
    assert found["definition"]["lease"] == {"value": 60.0, "own": True}
    assert found["definition"]["max_attempts"] == {"value": 9, "own": False}
    assert found["definition"].keys() == Definition.__dataclass_fields__.keys()
    assert (found["stats"]["ready"], found["stats"]["queued"]) == (1, 1)
    rows = [line.split() for line in shell.text("queues", "show", "orders").splitlines()]
    assert ["lease", "60", "s", "its", "own"] in rows
    assert ["retention", "86,400", "s", "default"] in rows
    assert ["max-length", "no", "limit", "default"] in rows
    assert ["ready", "1"] in rows


# --- Pausing, removing ---


def test_pause_and_resume(shell: Shell, producer: RedisQ) -> None:
    id = producer.queue_message("orders", {"price": 1})
    assert shell.text("queues", "pause", "orders") == "orders is paused"
    shell.run("worker", "shop:worker", "--burst")
    assert producer.get_message("orders", id).status == "PENDING"
    assert shell.json("queues", "resume", "orders") == {"queue": "orders", "paused": False}
    shell.run("worker", "shop:worker", "--burst")
    assert producer.get_message("orders", id).status == "COMPLETE"
    assert shell.json("queues", "pause", "orders") == {"queue": "orders", "paused": True}
    assert shell.text("queues", "resume", "orders") == "orders is not paused"


def test_purge_and_drop(shell: Shell, producer: RedisQ) -> None:
    producer.queue_messages("orders", [1, 2, 3])
    producer.queue_message("mail", 1, delay=60)
    assert shell.text("queues", "purge", "orders", "--yes") == "purged 3"
    assert shell.json("queues", "purge", "mail", "-y") == {"queue": "mail", "purged": 1}
    assert producer.stats("orders").ready == 0
    assert shell.text("queues", "drop", "orders", "--yes") == "dropped orders"
    assert shell.json("queues", "drop", "mail", "--yes") == {"dropped": "mail"}
    assert producer.queues() == []


def test_without_a_terminal_they_want_yes(shell: Shell, producer: RedisQ) -> None:
    producer.queue_messages("orders", [1, 2])
    producer.queue_message("orders", 3, delay=60)
    told = shell.error("queues", "purge", "orders")
    assert "removes the 2 ready and 1 scheduled messages of orders" in told
    assert told.endswith("add --yes.")
    told = shell.error("queues", "drop", "orders")
    assert "3 waiting messages, 0 in progress, 0 finished" in told
    assert told.endswith("add --yes.")
    assert producer.stats("orders").ready == 2


@pytest.mark.full(keep=2)
@pytest.mark.parametrize(
    ("command", "answer", "code", "shown", "left"),
    [
        ("purge", "y\n", 0, "purged 1", ["orders"]),
        ("purge", "\n", 1, "Nothing was changed.", ["orders"]),
        ("drop", "YES\n", 0, "dropped orders", []),
        ("drop", "no\n", 1, "Nothing was changed.", ["orders"]),
        ("drop", "\x03", 130, "Go on?", ["orders"]),
    ],
)
def test_on_a_terminal_they_ask(
    shell: Shell, producer: RedisQ, command: str, answer: str, code: int, shown: str, left: list[str]
) -> None:
    producer.queue_message("orders", 1)
    terminal = Terminal(shell, "queues", command, "orders")
    terminal.read_to("Go on? [y/N] ")
    if answer == "\x03":  # without a controlling terminal it is no signal
        terminal.process.send_signal(signal.SIGINT)
    else:
        terminal.type(answer)
    assert terminal.wait() == code
    assert shown in terminal.shown
    assert "Traceback" not in terminal.shown
    assert producer.queues() == left
    assert producer.stats("orders").ready == int(left == ["orders"] and code != 0)


@pytest.mark.parametrize(
    "arguments", [["show"], ["pause"], ["resume"], ["purge", "--yes"], ["drop", "--yes"]], ids=lambda words: words[0]
)
def test_a_queue_that_does_not_exist(shell: Shell, producer: RedisQ, arguments: list[str]) -> None:
    assert shell.error("queues", *arguments, "orders") == "There is no queue orders. There is no queue yet."
    producer.queue_messages("orders", [1])
    producer.queue_messages("mail", [1])
    assert shell.error("queues", *arguments, "ordres") == "There is no queue ordres. Did you mean orders?"
    assert shell.error("queues", *arguments, "x") == "There is no queue x. There are: mail, orders."
    assert "queue name" in shell.error("queues", *arguments, "a b")
    assert producer.queues() == ["mail", "orders"]


def test_a_token_for_one_queue_is_enough(shell: Shell, producer: RedisQ) -> None:
    """It may not list the others, so nobody can say whether the queue exists."""
    producer.queue_message("orders", 1)
    token = shell.text("token", "create", "--op", "admin", "--op", "stats", "--queue", "orders")
    assert shell.json("queues", "show", "orders", "--token", token)["stats"]["ready"] == 1
    assert shell.text("queues", "define", "orders", "--lease", "9", "--token", token).startswith("orders\n")
    assert shell.text("queues", "pause", "orders", "--token", token) == "orders is paused"
    assert shell.text("queues", "purge", "orders", "--yes", "--token", token) == "purged 1"
    assert "does not allow admin" in shell.error("queues", "pause", "mail", "--token", token)


# --- Watching ---


def test_watch_prints_a_line_for_each_queue_and_ends_with_ctrl_c(shell: Shell, producer: RedisQ) -> None:
    producer.queue_message("orders", 1)
    watch = shell.start("stats", "--watch", "--every", "0.1")
    assert watch.stdout
    first = watch.stdout.readline()
    assert re.match(r"\d\d:\d\d:\d\d  orders  ready 1  scheduled 0  in progress 0  dead 0  oldest [\d.]+ s\n", first)
    producer.queue_messages("orders", list(range(100)))
    while not (rate := re.search(r"ready 101 .*  queued ([\d,.]+)/s  completed 0.0/s  failed 0.0/s", first)):
        first = watch.stdout.readline()
    assert float(rate[1].replace(",", "")) > 0
    watch.send_signal(signal.SIGINT)
    assert watch.wait(TIMEOUT) == 0
    assert shell.log.read_text() == ""


def test_watch_as_json_has_rates_from_the_second_look_on(shell: Shell, producer: RedisQ) -> None:
    producer.queue_message("orders", 1)
    watch = shell.start("stats", "orders", "--watch", "--every", "0.1", "--json")
    assert watch.stdout
    (row,) = json.loads(watch.stdout.readline())["queues"]
    assert (row["queue"], row["ready"], row["rates"]) == ("orders", 1, None)
    producer.queue_messages("orders", list(range(500)))
    queued = 0.0
    while not queued:
        queued = json.loads(watch.stdout.readline())["queues"][0]["rates"]["queued"]
    assert 0 < queued < 500 / 0.001  # per second: of looks that a busy machine may make one soon after the other
    watch.terminate()


def test_watch_on_a_terminal_is_a_table_that_stays(shell: Shell, producer: RedisQ) -> None:
    producer.queue_message("orders", 1)
    terminal = Terminal(shell, "stats", "--watch", "--every", "0.1")
    terminal.read_to("completed/s")
    terminal.read_to("0.0")
    eventually(lambda: terminal.process.poll() is None, "a watch that runs")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0
    assert "\x1b[1A" in terminal.shown  # it goes up to write again
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") == 1  # the cursor is back
    assert "Traceback" not in terminal.shown


def test_watch_without_queues_and_without_redis(shell: Shell) -> None:
    watch = shell.start("stats", "--watch", "--every", "0.1")
    assert watch.stdout
    assert watch.stdout.readline() == "There is no queue yet.\n"
    watch.send_signal(signal.SIGINT)
    assert watch.wait(TIMEOUT) == 0
    assert "cannot be reached" in shell.error("stats", "--watch", "--url", "redis://127.0.0.1:1")
    for seconds in ("0", "often"):
        assert shell.run("stats", "--watch", "--every", seconds).returncode == 2


def test_a_queue_that_does_not_exist_is_said_not_to(shell: Shell) -> None:
    for arguments in (["stats"], ["stats", "--watch"], ["queues", "show"], ["dead", "list"], ["doctor"]):
        assert shell.error(arguments[0], *arguments[1:], "order") == "There is no queue order. There is no queue yet."
    shell.text("queue", "orders", "1")
    shell.text("queue", "order-secrets", "1")
    assert shell.error("stats", "orders-") == "There is no queue orders-. Did you mean orders or order-secrets?"
    ops = ["--op", "admin", "--op", "stats"]
    token = shell.text("token", "create", *ops, "--queue", "orders", "--queue", "order")
    for command in (["stats"], ["queues", "show"], ["queues", "pause"], ["queues", "purge"], ["queues", "drop"]):
        told = shell.error(*command, "order", "--token", token)
        assert told == "There is no queue order. Did you mean orders?"
    token = shell.text("token", "create", "--op", "admin", "--queue", "orde")
    assert shell.error("queues", "pause", "orde", "--token", token) == "There is no queue orde."
    assert shell.text("queues", "list").split() == ["order-secrets", "orders"]


def test_stats_tell_of_the_other_queues_when_one_needs_a_newer_redisq(
    shell: Shell, producer: RedisQ, namespace: str, system_server: Any
) -> None:
    if system_server.kind == "fakeredis":
        pytest.skip("fakeredis garbles what a script refuses by an error")
    for queue in ("mails", "orders"):
        producer.queue_message(queue, "hello")
    with redis.Redis.from_url(system_server.url, protocol=2) as raw:
        raw.hset(partition_keys(namespace, "orders").config, "needs", "groups@9.1.0")
    done = shell.run("stats", "--json")
    assert [row["queue"] for row in json.loads(done.stdout)["queues"]] == ["mails"]
    assert done.stderr == (
        "redisq: orders: The queue needs groups, which takes redisq 9.1.0 or later: nothing was changed.\n"
    )
    done = shell.run("stats", "orders")
    assert (done.returncode, done.stdout) == (1, "")
    assert "redisq: The queue needs groups, which takes redisq 9.1.0 or later" in done.stderr
