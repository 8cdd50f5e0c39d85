"""The command line as a user meets it: each command's text, its JSON, its failure; and workers under signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
import redis

import redisq
from redisq import Credentials, RedisQ
from redisq.runtime import extras
from redisq.store.keys import queues_key
from tests.conftest import CREDENTIALS
from tests.support.shell import TIMEOUT, UUID, Shell, alive
from tests.system.conftest import eventually

pytestmark = pytest.mark.system

ID = "05749898-74a0-47e1-b10d-5acf29d040c4"


# --- The whole ---


def test_help_names_every_command_and_loads_no_client(shell: Shell) -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from redisq.cli import main; code = main()\n"
        "heavy = {'redis', 'pydantic_settings', 'msgpack', 'redisq.client', 'redisq.embedded'} & set(sys.modules)\n"
        "sys.exit(code or ' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=shell.environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    commands = (
        "demo",
        "queue",
        "get",
        "cancel",
        "delete",
        "trace",
        "worker",
        "stats",
        "sweep",
        "queues",
        "dead",
        "token",
        "app",
    )
    for command in commands:
        assert re.search(rf"^\W*{command}\s", done.stdout, re.MULTILINE)


def test_version(shell: Shell) -> None:
    assert shell.text("--version") == f"redisq {redisq.__version__}"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_names_the_extra(shell: Shell, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from redisq.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], env=shell.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    told = f"redisq: the command line needs packages that are not here: {extras.install('cli')}\n"
    assert done.stderr == told


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["queue", "orders"],
        ["queue", "orders", "1", "--delay", "soon"],
        ["queue", "orders", "1", "--delay=-1"],
        ["get", "orders", ID, "--wait", "nan"],
        ["get", "orders", ID, "--wait", "inf"],
        ["worker", "shop:worker", "--processes", "0"],
        ["demo", "--limit", "0"],
        ["token", "create", "--op", "fly"],
        ["token", "create", "--ttl", "0"],
        ["token", "narrow", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(shell: Shell, arguments: list[str]) -> None:
    done = shell.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: redisq" in done.stderr
    assert "Traceback" not in done.stderr


FAILURES: dict[str, tuple[list[str], dict[str, str], str]] = {
    "no credentials": (["get", "orders", ID], {"REDISQ_APP_ID": "", "REDISQ_APP_SECRET": ""}, "REDISQ_APP_"),
    "half of them": (["get", "orders", ID], {"REDISQ_APP_SECRET": "short"}, "rqs1"),
    "setting": (["stats"], {"REDISQ_LEASE": "long"}, "REDISQ_LEASE"),
    "no redis": (["stats", "--url", "redis://127.0.0.1:1"], {}, "127.0.0.1"),
    "url": (["stats", "--url", "http://localhost"], {}, "redis://"),
    "queue name": (["stats", "a b"], {}, "queue name"),
    "sweep": (["sweep", "a b"], {}, "queue name"),
    "queues": (["queues", "list", "--token", "x"], {}, "token"),
    "unknown id": (["get", "orders", ID], {}, "no message with this id"),
    "malformed id": (["get", "orders", "x"], {}, "UUID"),
    "delete": (["delete", "orders", ID], {}, "no message with this id"),
    "cancel": (["cancel", "orders", ID], {}, "no message with this id"),
    "id": (["queue", "orders", "1", "--id", "x"], {}, "UUID"),
    "its option": (["queue", "orders", "1", "--id", "x"], {}, "--id takes a UUID"),
    "key": (["queue", "orders", "1", "--idempotency-key", ""], {}, "--idempotency-key takes text of 1 to 512"),
    "life": (["queue", "orders", "1", "--expires-in", "999d"], {}, "--expires-in takes seconds"),
    "delay": (["queue", "orders", "1", "--delay", "999d"], {}, "--delay takes seconds"),
    "wait": (["get", "orders", ID, "--wait", "999d"], {}, "--wait takes seconds"),
    "not JSON": (["queue", "orders", "{sku: 1}"], {}, "not JSON (Expecting property name"),
    "NaN": (["queue", "orders", '{"a": [NaN]}'], {}, "$.a[0]"),
    "twice": (["queue", "orders", '{"a": 1, "a": 2}'], {}, "same key twice"),
    "deep": (["queue", "orders", "[" * 40 + "]" * 40], {}, "deep"),
    "very deep": (["queue", "orders", "[" * 50_000], {}, "deep"),
    "integer": (["queue", "orders", str(2**64)], {}, "64"),
    "long integer": (["queue", "orders", "1" * 5000], {}, "cannot be read"),
    "surrogate": (["queue", "orders", '"\\ud800"'], {}, "$"),
    "token": (["stats", "--token", "x"], {}, "token"),
    "application": (["app", "create", "a b"], {}, "application id"),
    "pattern": (["token", "create", "--queue", "a*b"], {}, "pattern"),
    "no signer": (["token", "create"], {"REDISQ_APP_ID": "", "REDISQ_APP_SECRET": ""}, "REDISQ_APP_"),
    "unreadable token": (["token", "inspect", "x"], {}, "not valid"),
    "narrowing it": (["token", "narrow", "x", "--op", "get"], {}, "not valid"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_error_is_one_line_that_says_what_is_wrong(shell: Shell, case: str) -> None:
    arguments, environment, text = FAILURES[case]
    for name in [name for name, value in environment.items() if not value]:
        del shell.environment[name]
    assert text in shell.error(*arguments, **{name: value for name, value in environment.items() if value})


def test_with_json_an_error_is_the_same(shell: Shell) -> None:
    assert "no message with this id" in shell.error("get", "orders", ID, "--json")


def test_a_reader_that_has_gone_away_is_no_error_to_tell(shell: Shell) -> None:
    for arguments in (["queues", "list", "--json"], ["stats"], ["token", "create"]):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "redisq", *arguments]
        done = subprocess.run(command, env=shell.environment, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert done.stderr == ""


# --- Messages ---


def test_queue_prints_the_id(shell: Shell) -> None:
    id = shell.text("queue", "orders", '{"sku": "A-1"}')
    assert UUID.fullmatch(id)
    assert shell.json("get", "orders", id)["request"] == {"sku": "A-1"}
    assert UUID.fullmatch(shell.json("queue", "orders", "[]").pop("id"))


def test_queue_reads_stdin(shell: Shell) -> None:
    id = shell.text("queue", "orders", "-", input='\ufeff{"name": "Zoë"}\n')
    assert shell.json("get", "orders", id)["request"] == {"name": "Zoë"}
    assert "not UTF-8 (byte 1)" in shell.error("queue", "orders", "-", input=b'"\xff"')
    assert "Standard input is empty" in shell.error("queue", "orders", "-")


def test_queue_with_an_id_is_safe_to_repeat(shell: Shell) -> None:
    assert shell.json("queue", "orders", "1", "--id", ID) == {"id": ID}
    assert shell.json("queue", "orders", "1", "--id", ID) == {"id": ID}
    assert "another body" in shell.error("queue", "orders", "2", "--id", ID)
    assert shell.json("stats", "orders")["ready"] == 1


@pytest.mark.parametrize("delay", ["3600", "3600s", "60m", "1h"])
def test_queue_with_a_delay(shell: Shell, delay: str) -> None:
    message = shell.json("get", "orders", shell.text("queue", "orders", "1", "--delay", delay))
    queued, available = (datetime.fromisoformat(message[name]) for name in ("queued_at", "available_at"))
    assert message["status"] == "PENDING"
    assert abs(available - queued - timedelta(hours=1)) < timedelta(seconds=1)


def test_get_describes_a_message_in_each_state(shell: Shell) -> None:
    good = shell.text("queue", "orders", '{"price": 21}')
    bad = shell.text("queue", "orders", '{"fail": true, "note": "\\u001b[2J"}')
    lines = shell.text("get", "orders", good).splitlines()
    assert lines[0].split() == ["PENDING", good, "in", "orders"]
    assert lines[1].split(maxsplit=1) == ["request", '{"price": 21}']

    shell.run("worker", "shop:worker", "--burst", REDISQ_MAX_ATTEMPTS="1")
    described = dict(line.split(maxsplit=1) for line in shell.text("get", "orders", good).splitlines())
    assert described["COMPLETE"] == f"{good} in orders"
    assert described["result"] == '{"total": 42}'
    assert described["attempts"] == "1"
    assert list(described)[-3:] == ["queued", "started", "finished"]
    described = dict(line.split(maxsplit=1) for line in shell.text("get", "orders", bad).splitlines())
    assert described["ERROR"] == f"{bad} in orders"
    assert '"type": "ValueError"' in described["error"]


def test_what_a_message_says_cannot_control_the_terminal(shell: Shell) -> None:
    id = shell.text("queue", "orders", '{"\\u001b[2J": "\\u009b31m[red]\\u202e", "long": "%s"}' % ("x" * 200))
    shown = shell.text("get", "orders", id)
    assert not set(shown) & set("\x1b\x9b\u202e")
    assert "[red]" in shown
    assert "x" * 200 in shown


def test_get_waits_for_the_end(shell: Shell) -> None:
    id = shell.text("queue", "orders", '{"price": 4}')
    waiting = shell.start("get", "orders", id, "--wait", "60", "--json")
    shell.run("worker", "shop:worker", "--burst")
    out, _ = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == 0
    assert json.loads(out)["result"] == {"total": 8}


def test_get_returns_the_message_as_it_is_when_the_wait_is_over(shell: Shell) -> None:
    id = shell.text("queue", "orders", "1")
    assert shell.json("get", "orders", id, "--wait", "0.01")["status"] == "PENDING"


def test_a_message_is_cancelled(shell: Shell) -> None:
    first, second = (shell.text("queue", "orders", "1") for _ in range(2))
    for _ in range(2):
        assert shell.text("cancel", "orders", first) == "cancelled"
    assert shell.json("cancel", "orders", second) == {"cancelled": True}
    assert "ended as ERROR (cancelled): Cancelled: It was cancelled" in shell.error("get", "orders", first, "--raw")
    assert re.search(r"cancelled +attempt 0 +by", shell.text("trace", "orders", first))
    assert re.search(r"^ *cancelled +2$", shell.text("stats", "orders"), re.MULTILINE)
    assert shell.text("dead", "redrive", "orders", "--all") == "redriven 0"
    token = shell.text("token", "create", "--op", "get", "--queue", "orders")
    assert "does not allow" in shell.error("cancel", "orders", first, "--token", token)


def test_ctrl_c_ends_a_command_with_130(shell: Shell) -> None:
    id = shell.text("queue", "orders", "1")
    program = (
        "import sys, time, redisq.cli\n"
        "sleep = time.sleep\n"
        "time.sleep = lambda seconds: (print('waiting', flush=True), sleep(seconds))\n"
        "sys.exit(redisq.cli.main())"
    )
    command = [sys.executable, "-c", program, "get", "orders", id, "--wait", "3600"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=shell.environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (130, "")


def test_delete(shell: Shell) -> None:
    first, second = (shell.text("queue", "orders", "1") for _ in range(2))
    assert shell.text("delete", "orders", first) == "deleted"
    assert shell.json("delete", "orders", second) == {"deleted": second}
    for id in (first, second):
        assert "no message with this id" in shell.error("get", "orders", id)
        assert "no message with this id" in shell.error("delete", "orders", id)


# --- Queues ---


def test_what_others_wrote_to_the_registry_is_no_queue(shell: Shell, producer: RedisQ) -> None:
    with redis.Redis.from_url(producer.settings.url) as raw:
        raw.hset(queues_key(producer.settings.namespace), mapping={"a b\nFORGED": "1", "orders": "1"})
    assert shell.text("queues", "list") == "orders"
    assert shell.json("queues", "list") == {"queues": ["orders"]}
    assert shell.json("sweep") == {"swept": {"orders": 0}}
    assert "FORGED" not in shell.text("stats")
    assert shell.error("stats", "mail").endswith("There is no queue mail. There are: orders.")


def test_stats_and_the_list_of_queues(shell: Shell) -> None:
    assert shell.text("stats") == "There is no queue yet."
    assert shell.json("stats") == {"queues": []}
    assert shell.text("queues", "list") == ""
    shell.text("queue", "orders", "1")
    shell.text("queue", "mail", "1")
    shell.text("queue", "mail", "2", "--delay", "60")

    assert shell.text("queues", "list") == "mail\norders"
    assert shell.json("queues", "list") == {"queues": ["mail", "orders"]}
    every = {row["queue"]: row for row in shell.json("stats")["queues"]}
    assert every.keys() == {"mail", "orders"}
    assert (every["mail"]["ready"], every["mail"]["scheduled"], every["orders"]["queued"]) == (1, 1, 1)
    assert shell.json("stats", "mail")["queue"] == "mail"

    rows = [line.split() for line in shell.text("stats").splitlines()]
    assert rows[0][:3] == ["queue", "ready", "scheduled"]
    assert ["mail", "1", "1", "0"] in [row[:4] for row in rows]
    assert ["scheduled", "1"] in [line.split() for line in shell.text("stats", "mail").splitlines()]


def test_sweep(shell: Shell) -> None:
    for queue in ("orders", "mail"):
        shell.text("queue", queue, "{}")
    shell.run("worker", "shop:worker", "--burst", REDISQ_RETENTION="0")
    assert shell.json("stats", "orders")["completed"] == 1
    assert shell.json("sweep", "mail") == {"swept": {"mail": 0}}
    assert set(shell.json("sweep", REDISQ_RETENTION="0", REDISQ_DEDUP_WINDOW="0")["swept"]) == {"mail", "orders"}
    assert shell.json("stats", "orders")["finished"] == 0
    assert shell.text("sweep", "orders") == "swept 0"
    assert shell.error("sweep", "order").endswith("There is no queue order. Did you mean orders?")


# --- Applications and tokens ---


def test_app_create_gives_credentials_that_work(shell: Shell) -> None:
    lines = shell.text("app", "create", "shop").splitlines()
    made = dict(re.fullmatch(r"export (REDISQ_APP_\w+)=(\S+)", line).groups() for line in lines)  # type: ignore[union-attr]
    assert Credentials.parse(made["REDISQ_APP_ID"], made["REDISQ_APP_SECRET"]).app == "shop"
    assert UUID.fullmatch(shell.text("queue", "orders", "1", **made))
    other = shell.json("app", "create", "shop")
    assert other["app_id"] == "shop"
    assert Credentials.parse(**{"app_id": "shop", "secret": other["app_secret"]}).kid not in made["REDISQ_APP_SECRET"]


def test_a_token_allows_what_it_says_and_narrowed_less(shell: Shell) -> None:
    token = shell.text("token", "create", "--op", "queue", "--op", "get", "--queue", "ord*", "--ttl", "600")
    id = shell.text("queue", "orders", "1", "--token", token)
    assert "does not allow" in shell.error("queue", "mail", "1", "--token", token)
    assert "does not allow" in shell.error("delete", "orders", id, "--token", token)

    narrowed = shell.text("token", "narrow", "-", "--op", "get", input=token + "\n")
    assert shell.json("get", "orders", id, "--token", narrowed)["id"] == id
    assert "does not allow" in shell.error("queue", "orders", "1", "--token", narrowed)
    wider = shell.json("token", "narrow", narrowed, "--op", "queue", "--op", "get", "--queue", "*")["token"]
    assert "does not allow" in shell.error("queue", "orders", "1", "--token", wider)


def test_narrowing_needs_no_credentials(shell: Shell) -> None:
    token = shell.json("token", "create")["token"]
    del shell.environment["REDISQ_APP_ID"], shell.environment["REDISQ_APP_SECRET"]
    narrowed = shell.text("token", "narrow", token, "--queue", "orders", "--ttl", "60")
    found = shell.json("token", "inspect", narrowed)
    assert [next(iter(caveat)) for caveat in found["caveats"]] == ["q", "exp"]
    assert found["valid"] is None
    assert "not checked" in shell.text("token", "inspect", narrowed)


def test_inspect_says_what_a_token_is_good_for(shell: Shell) -> None:
    token = shell.text("token", "create", "--op", "get", "--op", "queue", "--queue", "orders")
    narrowed = shell.text("token", "narrow", token, "--op", "get")
    found = shell.json("token", "inspect", narrowed)
    assert (found["valid"], found["reason"], found["payload"]["app"]) == (True, None, "tests")
    assert (found["allows"]["ops"], found["allows"]["queues"]) == (["get"], ["orders"])
    lines = [line.split(maxsplit=1) for line in shell.text("token", "inspect", "-", input=narrowed).splitlines()]
    assert ["valid", "yes"] in lines
    assert ["caveat", '{"ops": ["get"]}'] in lines

    forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BA")
    assert shell.json("token", "inspect", forged)["reason"] in ("bad_mac", "malformed")
    other = Credentials.generate("tests")
    assert shell.json("token", "inspect", token, REDISQ_APP_SECRET=other.secret())["reason"] == "unknown_key"
    assert "no: audience" in shell.text("token", "inspect", token, REDISQ_AUDIENCE="elsewhere")


def test_no_token_command_shows_a_secret(shell: Shell) -> None:
    token = shell.text("token", "create")
    key = CREDENTIALS.secret().rpartition(".")[2]
    for arguments in (["create"], ["inspect", token], ["inspect", token, "--json"], ["narrow", token, "--op", "get"]):
        assert key not in shell.text("token", *arguments)


# --- The worker ---

BROKEN = {
    "nocolon": ("shop", "MODULE:WORKER"),
    "nomodule": ("nope:worker", "no module nope"),
    "nosubmodule": ("shop.nope:worker", "no module shop.nope"),
    "relative": (".shop:worker", "no module .shop"),
    "noattribute": ("shop:nope", "has no 'nope'"),
    "noworker": ("shop:handle", "no redisq.Worker but of type function"),
    "nohandler": ("shop:Empty.worker", "has no handler"),
    "import": ("missing:worker", "ModuleNotFoundError: No module named 'pandas_of_mars' (missing.py line 2)"),
    "raises": ("raises:worker", "ZeroDivisionError: division by zero (raises.py line 1)"),
    "syntax": ("syntax:worker", "SyntaxError"),
}


@pytest.mark.full(keep=5)
@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_worker_that_cannot_be_loaded_is_one_line(shell: Shell, case: str, processes: str) -> None:
    (shell.folder / "missing.py").write_text("\nimport pandas_of_mars\n")
    (shell.folder / "raises.py").write_text("1 / 0\n")
    (shell.folder / "syntax.py").write_text("def def\n")
    target, text = BROKEN[case]
    done = shell.run("worker", target, "--processes", processes)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = re.findall(r"^redisq: .*$", done.stderr, re.MULTILINE)
    assert text in line
    assert "Traceback" not in done.stderr


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_may_not_work_says_so_once(shell: Shell, processes: str) -> None:
    del shell.environment["REDISQ_APP_ID"], shell.environment["REDISQ_APP_SECRET"]
    done = shell.run("worker", "shop:worker", "--processes", processes)
    assert done.returncode == 1
    assert len(re.findall(r"^redisq: No token and no credentials", done.stderr, re.MULTILINE)) == 1


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_burst_ends_when_nothing_is_ready(shell: Shell, processes: str) -> None:
    ids = [shell.text("queue", "orders", json.dumps({"price": price})) for price in range(3)]
    done = shell.run("worker", "shop:worker", "--burst", "--processes", processes)
    assert (done.returncode, done.stdout) == (0, "")
    assert [shell.json("get", "orders", id)["result"] for id in ids] == [{"total": 0}, {"total": 2}, {"total": 4}]
    assert len(shell.loaded()) == int(processes)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ [A-Z]+ redisq\S+ .", line) for line in done.stderr.splitlines())


def test_burst_passes_on_the_code_of_a_process_that_failed(shell: Shell) -> None:
    (shell.folder / "dies.py").write_text("import os; os._exit(7)\n")
    assert shell.run("worker", "dies:worker", "--burst", "--processes", "2").returncode == 7


@pytest.mark.full
def test_url_is_handed_to_the_processes(shell: Shell) -> None:
    url = shell.environment.pop("REDISQ_URL")
    for processes in ("1", "2"):
        id = shell.text("queue", "orders", "{}", "--url", url)
        assert shell.run("worker", "shop:worker", "--burst", "--processes", processes, "--url", url).returncode == 0
        assert shell.json("get", "orders", id, "--url", url)["status"] == "COMPLETE"


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_work_together_are_replaced_and_stop(shell: Shell, number: signal.Signals) -> None:
    parent = shell.start("worker", "shop:worker", "--processes", "2")
    shell.meet()
    first = shell.loaded()
    assert len(first) == 2
    assert parent.pid not in first
    assert all(os.getsid(pid) == pid for pid in first)  # a terminal's signals do not reach them

    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(shell.loaded()) == 3, "a new process")
    shell.meet()
    (living,) = first - {killed}
    assert alive(living)

    parent.send_signal(number)
    assert parent.wait(TIMEOUT) == 0
    assert not any(alive(pid) for pid in shell.loaded())


def test_processes_end_when_their_parent_is_killed(shell: Shell) -> None:
    parent = shell.start("worker", "shop:worker", "--processes", "2")
    shell.meet()
    parent.kill()
    eventually(lambda: not any(alive(pid) for pid in shell.loaded()), "the end of the processes")
    assert shell.json("stats", "orders")["in_progress"] == 0


@pytest.mark.full
def test_a_process_that_ends_before_it_works_is_started_again(shell: Shell) -> None:
    """A crash, as opposed to a report that nothing can be done."""
    (shell.folder / "flaky.py").write_text(
        "import os\nfrom pathlib import Path\n"
        "if len(list(Path('loaded').iterdir())) < 2:\n    Path('loaded', str(os.getpid())).touch(); os._exit(1)\n"
        "from shop import worker\n"
    )
    parent = shell.start("worker", "flaky:worker", "--processes", "2")
    shell.meet()
    parent.terminate()
    assert parent.wait(TIMEOUT) == 0


@pytest.mark.full(keep=1)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_signal_cuts_handlers_short(shell: Shell, processes: int) -> None:
    worker = shell.start("worker", "shop:worker", "--processes", str(processes), REDISQ_GRACE="3600")
    shell.meet(processes)
    id = shell.text("queue", "slow", "{}")
    eventually((shell.folder / "hanging").exists, "a handler that hangs")
    worker.terminate()
    eventually(lambda: len(re.findall(r"redisq\.worker\S* stopping", shell.log.read_text())) == processes, "stopping")
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait(TIMEOUT) == 0
    message = shell.json("get", "slow", id)
    assert (message["status"], message["attempts"]) == ("PENDING", 1)


def test_sigterm_ends_a_worker_with_0(shell: Shell) -> None:
    worker = shell.start("worker", "shop:worker")
    id = shell.text("queue", "orders", '{"price": 1}')
    assert shell.json("get", "orders", id, "--wait", "60")["status"] == "COMPLETE"
    worker.terminate()
    assert worker.wait(TIMEOUT) == 0
