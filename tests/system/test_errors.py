"""Errors that a person can use: each is produced for real, is one line, and names the cause and the next step."""

from __future__ import annotations

import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from redisq import Credentials, RedisQ, RedisQError, errors, tokens
from redisq.cli import output
from redisq.errors import BatchError
from redisq.store.keys import others, partition_keys
from tests.conftest import CREDENTIALS, REAL, start
from tests.support.shell import Shell

pytestmark = pytest.mark.system

PASSWORD = "correct-horse"
on_a_real_server = pytest.mark.skipif(REAL is None, reason="fakeredis has no passwords, databases and limits")


# --- The tree ---


def classes(root: type[RedisQError] = RedisQError) -> Iterator[type[RedisQError]]:
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from classes(kind)


@pytest.mark.parametrize("kind", sorted(set(classes()) - {BatchError}, key=lambda kind: kind.__name__))
def test_every_class_has_a_message_of_its_own(kind: type[RedisQError]) -> None:
    text = str(kind())
    assert re.fullmatch(r"[A-Z][^\n]{30,}[.)]", text)
    assert text != str(RedisQError())


def test_a_batch_says_how_many_and_why() -> None:
    text = str(BatchError(["a", "b"], {1: errors.QueueFull()}))
    assert text.startswith("1 of 2 messages were refused; the first is number 1: The queue is at its max_length")


# --- Redis ---


@pytest.fixture
def own(shell: Shell) -> Iterator[redis.Redis]:
    """A server that a test may configure; the shell uses it, too."""
    with start(str(REAL)) as server, redis.Redis.from_url(server.url) as client:
        shell.environment["REDISQ_URL"] = server.url
        yield client


def url_with(shell: Shell, option: str) -> str:
    return f"{shell.environment['REDISQ_URL']}{'&' if '?' in shell.environment['REDISQ_URL'] else '?'}{option}"


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://127.0.0.1:1", "127.0.0.1:1 cannot be reached: Error "),
        ("redis://nowhere.invalid", "nowhere.invalid:6379 cannot be reached: "),
        ("unix:///nowhere", "/nowhere cannot be reached: Error 2 connecting to /nowhere. No such file or directory."),
        (f"redis://:{PASSWORD}@127.0.0.1:1", "127.0.0.1:1 cannot be reached"),
    ],
)
def test_redis_that_is_not_there(shell: Shell, url: str, cause: str) -> None:
    told = shell.error("stats", "--url", url)
    assert cause in told
    assert told.endswith("Is it running, and is REDISQ_URL right?")
    assert PASSWORD not in told


@on_a_real_server
def test_a_wrong_password(shell: Shell, own: redis.Redis) -> None:
    own.config_set("requirepass", PASSWORD)
    told = shell.error("stats", "--url", url_with(shell, "password=guessed"))
    assert "the user name or password in REDISQ_URL is wrong" in told
    assert "guessed" not in told
    told = shell.error("stats")
    assert "it wants a password: put it in REDISQ_URL" in told
    assert shell.json("stats", "--url", url_with(shell, f"password={PASSWORD}")) == {"queues": []}


@on_a_real_server
def test_a_wrong_database(shell: Shell, own: redis.Redis) -> None:
    told = shell.error("stats", "--url", url_with(shell, "db=99"))
    assert "it has no database of that number; REDISQ_URL ends in it" in told


@on_a_real_server
def test_a_user_that_may_not(shell: Shell, own: redis.Redis) -> None:
    own.execute_command("ACL", "SETUSER", "guest", "on", f">{PASSWORD}", "~*", "+ping")
    told = shell.error("stats", "--url", url_with(shell, f"username=guest&password={PASSWORD}"))
    assert "its ACL does not allow this user what redisq needs" in told
    assert PASSWORD not in told


@on_a_real_server
def test_a_server_that_is_full(shell: Shell, own: redis.Redis) -> None:
    shell.text("queue", "orders", "1")
    own.config_set("maxmemory", 1)
    assert "is out of memory (maxmemory). Queue again later." in shell.error("queue", "orders", "1")


def test_another_programs_key(shell: Shell, producer: RedisQ) -> None:
    keys = partition_keys(producer.settings.namespace, "orders")
    with redis.Redis.from_url(producer.settings.url) as client:
        client.set(keys.stream, "mine")
        told = shell.error("queue", "orders", "1")
        client.delete(keys.stream)
    assert "a value that is not redisq's; nothing was changed" in told
    assert "another program that uses this database and namespace" in told


@contextmanager
def answering(replies: dict[bytes, bytes], otherwise: bytes) -> Iterator[str]:
    """Give the URL of a server that answers each command by the first of these words in it."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while asked := self.request.recv(65536):
                for command in re.findall(rb"\*\d+\r\n[^*]*", asked):  # several may come at once
                    answer = next((reply for word, reply in replies.items() if word in command), otherwise)
                    self.request.sendall(answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


NEEDED = "redisq needs Redis 6.2 or later, or Valkey 7.2 or later"


def test_an_old_server(shell: Shell) -> None:
    """As Redis 5.0.6 answers. Most of its commands are there, so it is asked for its version."""
    info = b"# Server\r\nredis_version:5.0.6\r\nredis_mode:standalone\r\n"
    replies = {b"CLIENT": b"+OK\r\n", b"INFO": b"$%d\r\n%s\r\n" % (len(info), info)}
    with answering(replies, b"-ERR unknown command\r\n") as url:
        assert shell.error("stats", "--url", url).endswith(f"is of version 5.0.6, and {NEEDED}.")
        for processes in ("1", "2"):
            done = shell.run("worker", "shop:worker", "--processes", processes, "--url", url)
            assert done.returncode == 1
            (told,) = re.findall("^redisq: (.*)$", done.stderr, re.MULTILINE)
            assert told.endswith(f"is of version 5.0.6, and {NEEDED}.")


def test_a_server_that_lacks_a_command_and_does_not_tell_its_version(shell: Shell) -> None:
    unknown = b"-ERR Error running script (call to f_0): @user_script:84: @user_script: 84: Unknown Redis command "
    replies = {b"CLIENT": b"+OK\r\n", b"EVALSHA": unknown + b"called from Lua script\r\n"}
    with answering(replies, b"-ERR unknown command\r\n") as url:
        assert f"it does not know a command that redisq needs. {NEEDED}" in shell.error("stats", "--url", url)


def test_what_is_no_redis(shell: Shell) -> None:
    with answering({}, b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert "what answers there is no Redis; does REDISQ_URL name another port" in shell.error("stats", "--url", url)


# --- Settings and credentials ---


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"REDISQ_LEASE": "long"}, "REDISQ_LEASE: Input should be a valid number"),
        ({"REDISQ_LEASE": "0"}, "REDISQ_LEASE: Input should be greater than or equal to 0.1"),
        ({"REDISQ_AUTH": "maybe"}, "REDISQ_AUTH: Input should be 'token' or 'none'"),
        ({"REDISQ_URL": "localhost:6379"}, "REDISQ_URL takes redis://host:port/db, rediss:// (TLS), unix://path or"),
        ({"REDISQ_URL": "redis://localhost?tls=1"}, "REDISQ_URL has an option after ? that redis-py does not take"),
        ({"REDISQ_NAMESPACE": "a b"}, "use 1 to 128 of A-Z a-z 0-9 . _ - (REDISQ_NAMESPACE)"),
        ({"REDISQ_APP_SECRET": "guessed"}, "copy all of it, or make a new one with `redisq app create NAME`"),
        ({"REDISQ_APP_ID": "a b"}, "An application id is 1 to 64 of"),
    ],
    ids=str,
)
def test_a_setting_that_is_wrong(shell: Shell, environment: dict[str, str], text: str) -> None:
    told = shell.error("stats", **environment)
    assert text in told
    assert "guessed" not in told


@pytest.mark.parametrize("missing", ["REDISQ_APP_ID", "REDISQ_APP_SECRET"])
def test_half_of_the_credentials(shell: Shell, missing: str) -> None:
    del shell.environment[missing]
    told = shell.error("stats")
    assert told == f"{missing} is not set, but its other half is. `redisq app create NAME` prints both."


def test_no_credentials(shell: Shell) -> None:
    del shell.environment["REDISQ_APP_ID"], shell.environment["REDISQ_APP_SECRET"]
    told = shell.error("stats")
    for step in ("REDISQ_APP_ID and REDISQ_APP_SECRET", "`redisq app create NAME`", "--token", "REDISQ_AUTH=none"):
        assert step in told


# --- Tokens ---


def token(namespace: str, signer: Credentials = CREDENTIALS, ahead: float = 0.0, **values: object) -> str:
    """A token of a machine whose clock is `ahead` seconds."""
    arguments = {"audience": f"redisq:{namespace}", "ops": ["stats"], "queues": ["*"], "ttl": 60.0, **values}
    return tokens.sign(signer, now=time.time() + ahead, **arguments)  # type: ignore[arg-type]


def test_clocks_that_differ(shell: Shell, namespace: str) -> None:
    assert shell.json("stats", "--token", token(namespace)) == {"queues": []}
    told = shell.error("stats", "--token", token(namespace, ahead=3600))
    assert "the clock of the machine that made it is ahead of this one. Set both by NTP." in told
    told = shell.error("stats", "--token", token(namespace, ahead=-3600))
    assert told.startswith(
        "The token has expired. Make a new one; if this one is new, the clocks of two machines differ"
    )


def test_a_token_of_somewhere_else(shell: Shell, namespace: str) -> None:
    told = {
        "audience": shell.error("stats", "--token", token("elsewhere")),
        "unknown_key": shell.error("stats", "--token", token(namespace, Credentials.generate("tests"))),
        "malformed": shell.error("stats", "--token", "rq1.cut"),
        "version": shell.error("stats", "--token", "ey.J.h.b"),
    }
    assert all(f"({reason})" in text for reason, text in told.items())
    assert "another REDISQ_NAMESPACE or REDISQ_AUDIENCE" in told["audience"]
    assert "another secret than this process' REDISQ_APP_SECRET" in told["unknown_key"]
    assert "Was it cut when it was copied?" in told["malformed"]
    assert "redisq's tokens begin with rq1" in told["version"]


def test_a_token_that_does_not_allow_it(shell: Shell, namespace: str) -> None:
    given = token(namespace, queues=["mail"])
    assert "does not allow stats on every queue. Name one queue" in shell.error("stats", "--token", given)
    told = shell.error("stats", "orders", "--token", given)
    assert told == "The token does not allow stats on queue 'orders'. Use one that allows it."


# --- Messages ---


def test_a_message_that_is_too_large(shell: Shell) -> None:
    told = shell.error("queue", "orders", f'"{"x" * 100}"', REDISQ_MAX_BYTES="50")
    assert told.endswith("max_bytes, 50 bytes. Send a reference to its data, or raise max_bytes.")


def test_a_full_queue(shell: Shell, producer: RedisQ) -> None:
    producer.define("orders", max_length=1)
    producer.queue_message("orders", 1)
    assert shell.error("queue", "orders", "1").endswith("max_length of 1 waiting messages. Queue again later.")


# --- Arguments of Python, spelled as the options that set them ---


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InvalidMessage("id= takes a UUID"), "--id takes a UUID"),
        (errors.InvalidMessage("at= cannot go with delay=: one."), "--at cannot go with --delay: one."),
        (errors.InvalidMessage("expires_in= takes seconds"), "--expires-in takes seconds"),
        (errors.InvalidArgument("with min_age= and max_age="), "with --older-than and --younger-than"),
        (errors.MessageConflict("This idempotency_key was used."), "This --idempotency-key was used."),
        (errors.InvalidMessage("$.id= is data, and so is id=5"), "$.id= is data, and so is id=5"),
        (errors.Unavailable("wait= is of somebody else"), "wait= is of somebody else"),
        ("of its own: id=", "of its own: id="),
    ],
    ids=str,
)
def test_arguments_are_spelled_as_options(error: Exception | str, text: str) -> None:
    assert output.spelled(error) == text


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [(["stats"], "No token"), (["queue", "orders", "--lines"], "Stopped at line 1: No token")],
    ids=["alone", "within a command's own text"],
)
def test_a_command_names_its_option(shell: Shell, arguments: list[str], begin: str) -> None:
    for name in ("REDISQ_APP_ID", "REDISQ_APP_SECRET"):
        del shell.environment[name]
    told = shell.run(*arguments, input="1\n").stderr
    assert told.startswith(f"redisq: {begin}")
    assert "pass --token, or switch" in told


# --- Workers ---


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_unknown_module(shell: Shell, processes: str) -> None:
    done = shell.run("worker", "sohp:worker", "--processes", processes)
    (told,) = re.findall("^redisq: (.*)$", done.stderr, re.MULTILINE)
    assert (done.returncode, told) == (1, "There is no module sohp in the current folder, nor is it installed.")


def warnings(shell: Shell) -> dict[str, str]:
    """What a worker says at its start of the queues that have a handler: by queue, the level and the text."""
    log = shell.run("worker", "shop:worker", "--burst").stderr
    found = re.findall(r"^\S+ ([A-Z]+) redisq\.worker\[\d+\] queue (\w+): no message was ever (.*)$", log, re.MULTILINE)
    return {queue: f"{level} {text}" for level, queue, text in found}


def test_a_handler_for_a_queue_that_does_not_exist(shell: Shell, producer: RedisQ) -> None:
    where = f"queued to it in namespace {producer.settings.namespace} at "
    found = warnings(shell)
    assert found.keys() == {"orders", "slow"}
    for text in found.values():
        assert text.startswith(f"INFO {where}")
        assert text.endswith(". There is no queue yet.")
    producer.queue_message("order", {})
    found = warnings(shell)
    assert found["orders"].startswith(f"WARNING {where}")
    assert found["orders"].endswith(". Did you mean order?")
    assert found["slow"].endswith(". There are: order.")
    producer.queue_message("orders", {})
    assert warnings(shell).keys() == {"slow"}


def test_of_many_queues_a_few_are_named() -> None:
    assert others("x", []) == "There is no queue yet."
    assert others("orders", ["mail", "orders.eu", "order"]) == "Did you mean order or orders.eu?"
    known = [f"queue{number:04}" for number in range(1234)]
    assert others("x", known) == f"There are: {', '.join(known[:10])} and 1,224 more."
