"""`limits`: what counts as a setting of a queue, and what leaves the caller's default in force."""

from __future__ import annotations

from importlib.resources import files

import pytest

from redisq.model.queue import stored_number
from redisq.store import scripts
from tests.scripts.conftest import Orders

SCRIPT = "".join(
    [
        *((files(scripts) / "lib" / f"{part}.lua").read_text("utf-8") for part in ("arguments", "limits")),
        "local lease, max_bytes = limits(KEYS[1], {'lease', 'max_bytes'}, {ARGV[1], ARGV[2]}) ",
        "return string.format('%d %d', lease, max_bytes)",
    ]
)


def limits(orders: Orders, *defaults: bytes) -> bytes:
    found: bytes = orders.redis.eval(SCRIPT, 1, orders.keys.config, *defaults)
    return found


def test_the_defaults_of_a_queue_without_settings(orders: Orders) -> None:
    assert limits(orders, b"30000", b"1000") == b"30000 1000"


@pytest.mark.parametrize("value", [b"0", b"7", b"007", b"999999999999999"])
def test_a_whole_number_counts(orders: Orders, value: bytes) -> None:
    orders.redis.hset(orders.keys.config, "lease", value)
    assert limits(orders, b"30000", b"1000") == b"%d 1000" % int(value)
    assert stored_number(value.decode()) == int(value)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"abc", b"nan", b"inf", b"1e3", b"-5", b"+5", b"0x10", b"1.5", b"1.0", b" 7", b"7 ", b"7\0", b"\xff"),
        *(b"1000000000000000", b"9" * 400, b"9" * 5000, "\u0661".encode()),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_is_no_whole_number_of_15_digits_counts_as_not_set(orders: Orders, value: bytes) -> None:
    """Scripts and clients agree on that."""
    orders.redis.hset(orders.keys.config, "lease", value)
    assert limits(orders, b"30000", b"1000") == b"30000 1000"
    assert stored_number(value.decode(errors="backslashreplace")) is None
