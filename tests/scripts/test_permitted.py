"""`permitted`: which commands a user may not run, told before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis

from redisq.store import scripts
from tests.conftest import Raw
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES, everything

SCRIPT = scripts.load("permitted")
Ask = Callable[..., list[bytes]]


def tells(raw: Raw) -> bool:
    """Whether scripts on this server can ask what a user may do."""
    return bool(raw.redis.eval("return redis.acl_check_cmd and 1 or 0", 0))


@contextmanager
def asking(raw: Raw, *rules: str) -> Iterator[Ask]:
    """Ask as a user of these rules. The user goes in the end; no other test has it."""
    name = f"user-{raw.settings.namespace}"
    raw.redis.execute_command("ACL", "SETUSER", name, "on", "nopass", "+eval", *rules)
    client = redis.Redis.from_url(raw.server.url, protocol=2, username=name, password="any")

    def ask(keys: Sequence[str], *commands: str) -> list[bytes]:
        answer: list[bytes] = client.eval(SCRIPT.text, len(keys), *keys, *commands)
        return answer

    try:
        yield ask
    finally:
        client.close()
        raw.redis.acl_deluser(name)


def test_what_is_not_allowed_is_named_in_order(raw_real: Raw) -> None:
    if not tells(raw_real):
        pytest.skip("this server cannot tell (before Redis 7.0)")
    with asking(raw_real, "~*", "+hget", "+xadd") as ask:
        assert ask([raw_real.keys.states], "XADD", "HSET", "HGET", "TIME") == [b"HSET", b"TIME"]
        assert ask([raw_real.keys.states], "HGET", "XADD") == []


@pytest.mark.parametrize("script", CASES)
def test_a_user_of_one_namespace_may_run_what_it_was_given(orders_real: Orders, script: str) -> None:
    """Commands without keys are among them, and the rules name no other key."""
    call = CASES[script](orders_real, everything(orders_real))
    commands = call.script.commands
    rules = (f"~{orders_real.raw.settings.namespace}:1:*", *(f"+{command.lower()}" for command in commands))
    with asking(orders_real.raw, *rules) as ask:
        assert ask(call.keys, *commands) == []


def test_a_command_counts_as_refused_when_it_is_on_any_key(raw_real: Raw) -> None:
    if not tells(raw_real):
        pytest.skip("this server cannot tell (before Redis 7.0)")
    states, stream = raw_real.keys.states, raw_real.keys.stream
    with asking(raw_real, "~*", "+hget", f"(+hset ~{states})") as ask:
        assert ask([states], "HGET", "HSET") == []
        assert ask([states, stream], "HGET", "HSET") == [b"HSET"]


def test_a_server_that_cannot_tell_has_no_objection(raw: Raw) -> None:
    if tells(raw):
        pytest.skip("this server can tell")
    assert raw.redis.eval(SCRIPT.text, 1, raw.keys.states, "HSET", "NO-SUCH-COMMAND") == []


def test_nothing_is_written(orders: Orders) -> None:
    call = CASES["claim"](orders, everything(orders))
    with orders.unchanged():
        assert orders.redis.eval(SCRIPT.text, len(call.keys), *call.keys, *call.script.commands) == []
