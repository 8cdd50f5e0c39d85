"""A worker's log: one line per event, with fields, and nothing of what messages hold but what handlers raise."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from redisq import RedisQ
from redisq.cli.logs import JsonFormatter, TextFormatter
from tests.conftest import CREDENTIALS
from tests.support.shell import Shell

pytestmark = pytest.mark.system

MARKER = "hush-5f2c"
TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [\w.]+\[\d+\] .+")
WORKER = f"""
import asyncio, logging
from redisq import Worker

worker = Worker()

@worker.handler("raise")
def fail(delivery):
    raise ValueError(f"{{delivery.request}} {MARKER}\\nof two lines")

@worker.handler("return")
async def give(delivery):
    return {{"{MARKER}": object()}}

@worker.handler("slow", timeout=0.01)
async def overrun(delivery):
    await asyncio.sleep(60)

@worker.handler("good")
async def good(delivery):
    logging.getLogger("talk").debug("it is good", extra={{"sku": "A-1", "queue": "mine"}})
    return delivery.request
"""


def queue_all(shell: Shell, producer: RedisQ) -> dict[str, str]:
    """Queue a message that holds the marker to each queue; give their ids by queue."""
    (shell.folder / "talk.py").write_text(WORKER)
    return {queue: producer.queue_message(queue, {"body": MARKER}) for queue in ("raise", "return", "slow", "good")}


def burst(shell: Shell, *arguments: str, **variables: str) -> list[str]:
    done = shell.run("worker", "talk:worker", "--burst", *arguments, **{"REDISQ_MAX_ATTEMPTS": "1", **variables})
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()


def records(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_json_is_one_object_per_line_with_the_fields_of_its_event(shell: Shell, producer: RedisQ) -> None:
    ids = queue_all(shell, producer)
    found = records(burst(shell, "--log-format", "json"))
    for record in found:
        assert datetime.fromisoformat(record["ts"]).tzinfo == UTC
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["ts"])
        assert record["level"] in ("INFO", "ERROR")
        assert record["logger"].startswith("redisq.")
        assert record["worker"].split(":")[1] == str(record["pid"])
    assert len({record["worker"] for record in found}) == 1
    about = {record["queue"]: record for record in found if "id" in record}
    assert {queue: record["id"] for queue, record in about.items()} == {
        queue: id for queue, id in ids.items() if queue != "good"
    }
    assert all(record["attempt"] == 1 and record["level"] == "ERROR" for record in about.values())
    assert all(record["duration"] >= 0 and record["max_attempts"] == 1 for record in about.values())
    assert about["raise"]["message"].endswith(
        f"attempt 1 of 1: dead: ValueError: {{'body': '{MARKER}'}} {MARKER}\nof two lines"
    )
    assert about["raise"]["exception"].rstrip().endswith("of two lines")
    assert about["raise"]["error"] == "ValueError"
    assert about["return"]["message"].endswith("its result cannot be stored: InvalidMessage")
    assert "did not return within its timeout" in about["slow"]["message"]
    assert found[0]["message"].startswith("working on raise, return")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("level", ["info", "debug"])
def test_with_types_alone_it_holds_no_body_no_exceptions_text_and_no_secret(
    shell: Shell, producer: RedisQ, form: str, level: str
) -> None:
    queue_all(shell, producer)
    lines = burst(shell, "--log-format", form, "--log-level", level, REDISQ_LOG_ERRORS="type")
    assert len(lines) >= 4
    whole = "\n".join(lines)
    assert MARKER not in whole
    assert CREDENTIALS.secret().rpartition(".")[2] not in whole
    assert "rq1." not in whole
    assert "Traceback" not in whole
    if form == "text":
        assert all(TEXT.fullmatch(line) for line in lines)


def test_of_redisqs_own_it_holds_no_body_and_no_secret(shell: Shell, producer: RedisQ) -> None:
    ids = queue_all(shell, producer)
    found = records(burst(shell, "--log-format", "json", "--log-level", "debug"))
    assert [record["id"] for record in found if MARKER in json.dumps(record)] == [ids["raise"]]
    secret = CREDENTIALS.secret().rpartition(".")[2]
    assert not any(secret in json.dumps(record) for record in found)


def test_at_debug_what_succeeds_is_told_and_a_handlers_lines_carry_its_message(shell: Shell, producer: RedisQ) -> None:
    id = queue_all(shell, producer)["good"]
    found = records(burst(shell, "--log-format", "json", "--log-level", "debug"))
    own, done = [record for record in found if record.get("id") == id]
    assert (own["logger"], own["message"], own["queue"], own["attempt"]) == ("talk", "it is good", "good", 1)
    assert (own["sku"], own["extra_queue"]) == ("A-1", "mine")
    assert re.search(r"attempt 1: complete in \d+\.\d{3} s$", done["message"])
    assert (done["level"], done["queue"], done["attempt"]) == ("DEBUG", "good", 1)
    assert done["duration"] >= 0
    again = producer.queue_message("good", 1)
    lines = burst(shell, "--log-level", "debug")
    assert (
        len(
            [
                line
                for line in lines
                if line.endswith(
                    f"talk[{line.partition('[')[2].partition(']')[0]}] queue good message {again} attempt 1: it is good"
                )
            ]
        )
        == 1
    )


def test_settings_say_what_is_logged_where_no_option_does(shell: Shell, producer: RedisQ) -> None:
    queue_all(shell, producer)
    chosen = {"REDISQ_LOG_FORMAT": "json", "REDISQ_LOG_LEVEL": "ERROR"}
    assert {record["level"] for record in records(burst(shell, **chosen))} == {"ERROR"}
    assert {record["level"] for record in records(burst(shell, "--log-level", "info", **chosen))} == {"INFO"}
    assert all(TEXT.fullmatch(line) for line in burst(shell, "--log-format", "text", "--log-level", "info", **chosen))
    for processes in ("1", "2"):
        done = shell.run("worker", "talk:worker", "--burst", "--processes", processes, REDISQ_LOG_LEVEL="loud")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("REDISQ_LOG_LEVEL: Input should be 'debug'") == 1


def test_what_succeeds_is_not_logged(shell: Shell, producer: RedisQ) -> None:
    queue_all(shell, producer)
    producer.queue_messages("good", list(range(50)))
    found = records(burst(shell, "--log-format", "json", "--log-level", "info"))
    assert producer.stats("good").completed == 51
    assert not [record for record in found if record.get("queue") == "good"]


def test_a_level_leaves_out_what_weighs_less(shell: Shell, producer: RedisQ) -> None:
    queue_all(shell, producer)
    found = records(burst(shell, "--log-format", "json", "--log-level", "warning", REDISQ_MAX_ATTEMPTS="2"))
    assert {record["level"] for record in found} == {"ERROR", "WARNING"}
    queue_all(shell, producer)
    found = records(burst(shell, "--log-format", "json", "--log-level", "error"))
    assert {record["level"] for record in found} == {"ERROR"}


def test_all_processes_log_alike(shell: Shell, producer: RedisQ) -> None:
    queue_all(shell, producer)
    found = records(burst(shell, "--log-format", "json", "--processes", "2"))
    assert {record["logger"] for record in found} == {"redisq.processes", "redisq.worker"}
    assert len({record["pid"] for record in found}) == 3
    assert len({record["worker"] for record in found if record["logger"] == "redisq.worker"}) == 2


def test_a_module_that_configures_logging_has_its_way_but_for_what_is_asked(shell: Shell) -> None:
    (shell.folder / "own.py").write_text(
        "import logging\nlogging.basicConfig(format='OWN %(message)s', level='INFO')\nfrom shop import worker\n"
    )

    def lines(*arguments: str) -> list[str]:
        return shell.run("worker", "own:worker", "--burst", *arguments).stderr.splitlines()

    own = lines()
    assert own
    assert all(line.startswith("OWN ") for line in own)
    assert all(json.loads(line)["pid"] for line in lines("--log-format", "json"))
    assert lines("--log-level", "error") == []


def test_wrong_usage(shell: Shell) -> None:
    for arguments in (["--log-format", "xml"], ["--log-level", "loud"]):
        done = shell.run("worker", "shop:worker", *arguments)
        assert (done.returncode, done.stdout) == (2, "")


# --- The formats ---


def record(text: str, *args: object, error: bool = False, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("shop", logging.INFO, "shop.py", 1, text, args, sys.exc_info() if error else None)
    made.__dict__.update(fields)
    return made


def test_a_record_of_anybody_is_one_line() -> None:
    odd = record("two\nlines \x1b[31m %s", "\udc80", attempt=0, queue=None, message_id="x", stranger=1)
    written = JsonFormatter().format(odd)
    assert written.isascii()
    assert "\n" not in written
    found = json.loads(written)
    assert found["message"] == "two\nlines \x1b[31m \udc80"
    assert (found["attempt"], found["id"], found["pid"], found["stranger"]) == (0, "x", os.getpid(), 1)
    assert not found.keys() & {"queue", "worker", "message_id", "exception", "args", "taskName"}
    head = f"INFO shop[{os.getpid()}] queue None message x attempt 0:"
    assert TextFormatter().format(odd).endswith(rf" {head} two\nlines \x1b[31m \udc80")


def test_times_are_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        made = record("oh")
        made.created, made.msecs = 1_700_000_000.25, 250.0
        assert TextFormatter().format(made).startswith("2023-11-14T22:13:20.250Z INFO ")
        assert json.loads(JsonFormatter().format(made))["ts"] == "2023-11-14T22:13:20.250Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_fields_of_any_kind_are_told() -> None:
    circle: list[Any] = []
    circle.append(circle)
    odd = record("oh", ts="mine", level=3, id=5, message_id="x", circle=circle, keys={(1, 2): 3}, number=float("nan"))
    found = json.loads(JsonFormatter().format(odd), parse_constant=pytest.fail)
    assert (found["id"], found["extra_id"], found["extra_ts"], found["extra_level"]) == ("x", 5, "mine", 3)
    assert (found["circle"], found["keys"], found["number"]) == ("[[...]]", "{(1, 2): 3}", "nan")


def test_a_traceback_follows_the_line_or_is_a_field() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        traced = record("oh", error=True)
    assert json.loads(JsonFormatter().format(traced))["exception"].endswith("ValueError: wrong")
    first, *others = TextFormatter().format(traced).splitlines()
    assert TEXT.fullmatch(first)
    assert others[-1] == "ValueError: wrong"


def test_a_traceback_controls_no_terminal() -> None:
    try:
        raise ValueError("one\x1b[31m\ntwo\r\u202ethree")
    except ValueError:
        traced = record("oh", error=True)
    assert TextFormatter().format(traced).splitlines()[-2:] == [r"ValueError: one\x1b[31m", r"two\r\u202ethree"]
