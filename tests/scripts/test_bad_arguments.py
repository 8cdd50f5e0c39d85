"""Arguments that are none: a number that is no number is refused, anything else leaves the queue sound.

redisq's own calls hold nothing of the kind. But a script that stumbles half-way keeps what it has written, and what is
stored once as a strange number stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from redisq import embedded
from redisq.errors import RedisQError
from redisq.store.call import Call
from tests.conftest import REAL_SERVERS, start
from tests.scripts.conftest import Orders
from tests.support.queues.calls import CASES
from tests.support.queues.workbench import Trial, Workbench, items_of, names_of, workbench

#: arguments, by the names that headers give them
NUMBERS = {
    *("max_length", "max_bytes", "max_attempts", "max_lost", "lease", "retention", "window", "dead"),
    *("backoff_base", "backoff_cap", "count", "limit", "memory", "bytes", "lapsed", "room", "first", "delay_ms"),
    *("after", "jitter", "value", "partitions", "from", "skip", "min_age", "max_age", "slices", "slice"),
    *("interval", "burst", "tokens"),
    *("alone", "letters", "bodies", "fix", "most"),
}
TEXTS = {
    *("id", "body", "terms", "worker", "nonce", "who", "name", "queue", "cause", "error", "told", "progress", "result"),
    *("before", "record", "generation", "channel"),
    *("attempt", "pattern", "cursor", "structure", "at"),  # compared, or taken as the server takes it
}
#: what Lua, C or Python may take for a number, and what nobody does
NO_NUMBERS = [
    *(
        b"",
        b"x",
        b"nan",
        b"-nan",
        b"inf",
        b"-inf",
        b"1e999",
        b"1e3",
        b"-1",
        b"-0",
        b"+1",
        b"0x10",
        b"1.5",
        b"1.",
        b",1",
    ),
    *(b"9" * 16, b"1" * 400, b"1\0", b"\0", b" 1", b"1 ", b"1 1", b"1\n", b"\xff", "\u0661".encode()),
]
TOO_FAR = {
    **{name: [b"0", b"501"] for name in ("count", "limit")},
    **{name: [b"2"] for name in ("alone", "letters", "bodies", "fix")},
    "partitions": [b"0"],
    "most": [b"0"],
    "slices": [b"0"],
    "slice": [b"1"],
    "interval": [b"0", b"1000000001"],
    "burst": [b"0", b"1000001"],
    "tokens": [b"0", b"1000001"],
    "jitter": [b"1000001"],
}
#: words that stand for something there
ALLOWED = {("fail", "delay_ms"): [b"-1"], ("dead", "max_age"): [b"-1"], ("define", "value"): [b""]}
ALLOWED[("release", "after")] = [b""]
ODD_TEXTS = [
    *(b"", b"x", b"-", b" ", b"a b", b"a,b", b"a;b", b"a\0b", b"a\nb", b"T", b"nan", b"0", b"9" * 400, b"\xff\xfe"),
    *(b"x" * 15, b"x" * 17, b"%s%d", "\u0661".encode()),
]


takes_arguments = pytest.mark.parametrize("script", sorted(script for script in CASES if names_of(script, 1)))


NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]


@pytest.fixture(scope="module", params=REAL_SERVERS or NONE, ids=lambda name: name.rpartition("/")[2])
def server(request: pytest.FixtureRequest) -> Iterator[embedded.EmbeddedServer]:
    """A server of this module's own: no other test shall find it full."""
    with start(request.param) as mine:
        yield mine


@pytest.fixture
def bench(orders: Orders, script: str) -> Iterator[Workbench]:
    with workbench(orders, script) as bench:
        yield bench


def with_argument(call: Call[Any], index: int, value: bytes) -> Call[Any]:
    args = list(call.args)
    args[index] = value
    return call._replace(args=args)


def arguments_of(bench: Workbench, wanted: set[str]) -> list[tuple[int, str]]:
    """The places and names of the wanted arguments; of items those of the first one and the last one."""
    script, count = bench.call.script.name, len(bench.call.args)
    before, size = items_of(script) or (count, 0)
    places = [*range(min(count, before + size)), *range(max(before + size, count - size), count)]
    names = names_of(script, count)
    return [(place, names[place]) for place in places if names[place] in wanted]


def assert_refused_or_sound(bench: Workbench, trial: Trial) -> None:
    if trial.error is None:
        bench.assert_sound(trial)
    else:
        texts = [arg.decode("latin-1") if isinstance(arg, bytes) else str(arg) for arg in trial.call.args]
        assert not [text for text in texts if len(text) > 3 and text in str(trial.error)], trial


@pytest.mark.parametrize("script", sorted(CASES))
def test_what_each_argument_is_has_been_decided(script: str) -> None:
    assert set(names_of(script, 100)) <= NUMBERS | TEXTS
    assert not NUMBERS & TEXTS


@takes_arguments
def test_a_number_that_is_none_is_refused(bench: Workbench, script: str) -> None:
    for index, name in arguments_of(bench, NUMBERS):
        values = [value for value in NO_NUMBERS if value not in ALLOWED.get((script, name), [])]
        for value in [*values, *TOO_FAR.get(name, [])]:
            for full in (False, True):
                error = bench.try_it(with_argument(bench.call, index, value), full=full).error
                assert type(error) is RedisQError, (name, value, error)
                assert "was sent a bad argument" in str(error)


@pytest.mark.full(keep=2)
@pytest.mark.parametrize("server", ["fakeredis"], indirect=True)
@takes_arguments
def test_fakeredis_refuses_a_number_that_is_none(bench: Workbench, script: str) -> None:
    """It is slow, and garbles what a script raises."""
    for index, _ in arguments_of(bench, NUMBERS)[:3]:
        assert bench.try_it(with_argument(bench.call, index, b"nan")).error is not None


@pytest.mark.full(keep=4)
@takes_arguments
def test_any_text_leaves_the_queue_sound(bench: Workbench, script: str) -> None:
    for index, _ in arguments_of(bench, TEXTS):
        for value in ODD_TEXTS:
            for full in (False, True):
                trial = bench.try_it(with_argument(bench.call, index, value), full=full)
                assert_refused_or_sound(bench, trial)


@takes_arguments
def test_another_number_of_arguments_leaves_the_queue_sound(bench: Workbench, script: str) -> None:
    args, items = list(bench.call.args), items_of(script)
    fewer = [args[:count] for count in range(len(args))]
    more = [[*args, b""], [*args, b"x"]]
    for changed in [*fewer, *more]:
        trial = bench.try_it(bench.call._replace(args=changed))
        assert_refused_or_sound(bench, trial)
        if items is None:
            assert trial.error is not None or len(changed) > len(args), changed
        elif (len(changed) - items[0]) % items[1] or (len(changed) <= items[0] and script != "define"):
            assert trial.error is not None, changed


@pytest.mark.parametrize("script", sorted(script for script in CASES if items_of(script)))
def test_too_many_items_are_refused(bench: Workbench, script: str) -> None:
    before, size = items_of(script) or (0, 0)
    args = list(bench.call.args)
    item = args[before : before + size]
    for count in (500, 501, 8000):  # of which unpack makes too many
        trial = bench.try_it(bench.call._replace(args=args[:before] + item * count))
        assert (trial.error is not None) is (count > 500), count
        if script != "audit":  # the doctor names nobody twice
            assert_refused_or_sound(bench, trial)
