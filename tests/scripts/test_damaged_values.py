"""Values that another program, or a newer redisq, has damaged: every script goes on, whole, and writes no nonsense.

One damaged message must not hold up the others of its call, and what is no number is not counted on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redisq import embedded
from redisq.errors import QueueFull, RedisQError, Unavailable
from redisq.model.queue import Definition
from tests.conftest import REAL_SERVERS, start
from tests.scripts.conftest import Orders
from tests.support.queues.calls import BRING_IN, CASES
from tests.support.queues.snapshot import Command
from tests.support.queues.workbench import Trial, Workbench, workbench

NO_NUMBERS = [
    *(b"", b"abc", b"nan", b"inf", b"-inf", b"1e400", b"-5", b"-0", b"0x10", b"1.5", b" 7", b"7\0", b"9" * 16),
    *(b"9223372036854775807", b"18446744073709551616", b"9" * 400, b"\xff", "\u0661".encode()),
]
ODD = [b"", b"-", b"x", b"\xff", b",;,", b"0", b"1" * 30, b"9" * 400, b"nan", b"1e400", b"1-1", b"5-" + b"9" * 30]
HEADS = [
    *(b"", b" ", b"x", b"-", b"1-1", b"1-1 ", b"1-1 short", b" 12345678body", b"0 12345678", b"x 12345678body"),
    *(b"%d-1 12345678body" % 10**30, b"1-%d 12345678body" % 10**30, b"1-1;x 12345678", b"1-1;%d 12345678" % 10**30),
    *(b"1-1; 12345678", b"--- 12345678body", b"1-1;1;1 12345678body", b"\xff" * 20, b"\0" * 20),
]
CLAIMS = [b"", b" ", b"x", b"x ", b"x y ", b"x 1 short", b"x %d " % 10**30, b"\xff" * 40, b"x 1 " + b"i" * 40]
SCORES = [b"inf", b"-inf", b"1e300", b"-5", b"0.5"]
HASHES, ZSETS = ("states", "messages", "workers", "counters", "config"), ("scheduled", "leases", "dead")
TOTALS = ("queued", "completed", "failed", "lost", "released", "dead", "unreadable", "deleted", "redriven")
STREAMS = ("stream", "finished", "tombstones")
REGISTRY = {
    "application",
    "applications",
    "register",
    "unregister",
    "registry",
    "info",
    "scan",
    "take",
}  # what touches no queue's keys
NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]
every_script = pytest.mark.parametrize("script", sorted(CASES.keys() - REGISTRY - {"drop"}))


@pytest.fixture(scope="module", params=REAL_SERVERS or NONE, ids=lambda name: name.rpartition("/")[2])
def server(request: pytest.FixtureRequest) -> Iterator[embedded.EmbeddedServer]:
    """A server of this module's own: no other test shall find it full."""
    with start(request.param) as mine:
        yield mine


@pytest.fixture
def bench(orders: Orders, script: str) -> Iterator[Workbench]:
    with workbench(orders, script) as bench:
        yield bench


def goes_on(bench: Workbench, *damage: Command, full: bool = False) -> Trial:
    """Check that a call goes through whole, but for what a full server refuses, and that its reply can be read."""
    trial = bench.try_it(bench.call, *damage, full=full)
    if trial.error is not None:
        assert isinstance(trial.error, QueueFull), trial
        assert trial.call.script.name in BRING_IN, trial
        return trial
    bench.assert_well_formed(trial)
    try:
        bench.decode(trial.reply)
    except RedisQError:  # which is what such a message deserves
        pass
    return trial


def all_of(bench: Workbench, name: str, values: list[bytes], turn: int) -> Command:
    """A command that damages all fields of a hash, each with another value, another one each turn."""
    fields = [field for key, field in bench.values if key == name]
    pairs = [part for n, field in enumerate(fields) for part in (field, values[(n + turn) % len(values)])]
    return ("HSET", bench.freezer.keys[name], *pairs)


def mutants(text: bytes) -> list[bytes]:
    """A record with each of its fields replaced, and cut off at each of its spaces, or before the end of a field."""
    fields = text.split(b" ", 8)
    replaced = [b" ".join([*fields[:n], odd, *fields[n + 1 :]]) for n in range(len(fields)) for odd in ODD]
    cut = [b" ".join(fields[:n]) + end for n in range(len(fields)) for end in (b"", b" ", b" 1")]
    return [*replaced, *cut, b"\xff" * 50, b"\0" * 50, b"P", b"T", b"C 1 n - - 1 1- - ", b"E 1 n - - 1 x - "]


def turns(count: int) -> Iterator[tuple[int, bool]]:
    """So many turns, some of them on a full server."""
    for turn in range(count):
        yield turn, turn % 4 == 0


# --- Each kind of value -----------------------------------------------------------------------------------------------


@every_script
def test_a_setting_that_is_no_number_counts_as_not_set(bench: Workbench, script: str) -> None:
    names = [*Definition.__dataclass_fields__, "one-that-nobody-knows", b"\xff"]
    for turn, full in turns(len(NO_NUMBERS)):
        values = [part for name in names for part in (name, NO_NUMBERS[turn])]
        goes_on(bench, ("HSET", bench.freezer.keys["config"], *values), full=full)


@every_script
def test_a_total_that_is_no_number_begins_anew(bench: Workbench, script: str) -> None:
    for turn, full in turns(len(NO_NUMBERS)):
        totals = [part for name in TOTALS for part in (name, NO_NUMBERS[turn])]
        goes_on(bench, ("HSET", bench.freezer.keys["counters"], *totals), full=full)


@pytest.mark.full(keep=3)
@every_script
def test_a_damaged_record_spoils_no_call(bench: Workbench, script: str) -> None:
    records = {field: mutants(text) for (name, field), text in bench.values.items() if name == "states"}
    for turn, full in turns(max(map(len, records.values()))):
        pairs = [part for id, texts in records.items() for part in (id, texts[turn % len(texts)])]
        goes_on(bench, ("HSET", bench.freezer.keys["states"], *pairs), full=full)


@pytest.mark.full(keep=3)
@every_script
def test_a_damaged_body_spoils_no_call(bench: Workbench, script: str) -> None:
    for turn, full in turns(len(HEADS)):
        goes_on(bench, all_of(bench, "messages", HEADS, turn), full=full)
        goes_on(bench, all_of(bench, "messages", HEADS, turn), ("DEL", bench.freezer.keys["states"]), full=full)


@every_script
def test_a_damaged_claim_spoils_no_call(bench: Workbench, script: str) -> None:
    nonce = bench.call.args[6].encode() if script == "claim" else b"x"
    for turn, full in turns(len(CLAIMS)):
        claim = CLAIMS[turn].replace(b"x", nonce)
        goes_on(bench, ("HSET", bench.freezer.keys["workers"], "w-1", claim, "w-2", claim), full=full)


@every_script
def test_odd_scores_spoil_no_call(bench: Workbench, script: str) -> None:
    members = [member for name, member in bench.values if name in ZSETS]
    for turn, full in turns(len(SCORES)):
        pairs = [part for member in (b"", b"another", *members) for part in (SCORES[turn], member)]
        goes_on(bench, *(("ZADD", bench.freezer.keys[name], *pairs) for name in ZSETS), full=full)


@every_script
def test_odd_entries_spoil_no_call(bench: Workbench, script: str) -> None:
    known = [field for name, field in bench.values if name == "messages"]
    for turn, full in turns(4):
        odd = [b"", b"another", b"\xff" * 16, b"x" * 15, *known][turn:]
        entries = [
            ("XADD", bench.freezer.keys[name], f"1-{n}", "another", id)
            for name in STREAMS
            for n, id in enumerate(odd, 1)
        ]
        goes_on(bench, *(("DEL", bench.freezer.keys[name]) for name in STREAMS), *entries, full=full)


# --- All at once ------------------------------------------------------------------------------------------------------

text = st.one_of(st.sampled_from(ODD), st.binary(max_size=40))


@st.composite
def damage(draw: st.DrawFn, bench: Workbench) -> Command:
    """Damage one value: cut it, replace a field of it, put another's value or anything in its place, or remove it."""
    name, field = draw(st.sampled_from(sorted(place for place in bench.values if place[0] in HASHES)))
    key, value = bench.freezer.keys[name], bench.values[name, field]
    match draw(st.sampled_from(["cut", "field", "other", "any", "gone"])):
        case "cut":
            value = value[: draw(st.integers(0, len(value)))]
        case "field":
            parts = value.split(b" ", 8)
            parts[draw(st.integers(0, len(parts) - 1))] = draw(text)
            value = b" ".join(parts)
        case "other":
            value = bench.values[draw(st.sampled_from(sorted(place for place in bench.values if place[0] == name)))]
        case "any":
            value = draw(text)
        case "gone":
            return ("HDEL", key, field)
    return ("HSET", key, field, value)


@pytest.mark.full(keep=3)
@every_script
def test_any_damage_spoils_no_call(bench: Workbench, script: str) -> None:
    @settings(max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(damage(bench), min_size=1, max_size=6), st.booleans())
    def go_on(commands: list[Command], full: bool) -> None:
        goes_on(bench, *commands, full=full)

    go_on()


# --- The registry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["register"])
def test_a_number_of_partitions_that_is_none_is_not_guessed(bench: Workbench, script: str) -> None:
    for turn, full in turns(len(NO_NUMBERS)):
        registry = ("HSET", bench.freezer.keys["queues"], "invoices", NO_NUMBERS[turn])
        trial = bench.try_it(bench.call, registry, full=full)
        assert isinstance(trial.error, Unavailable)
        assert "nothing was changed" in str(trial.error)
        assert "redisq doctor --fix" in str(trial.error)


@pytest.mark.parametrize("script", ["registry", "unregister"])
def test_a_damaged_registry_can_be_read(bench: Workbench, script: str) -> None:
    for turn, full in turns(len(NO_NUMBERS)):
        registry = ("HSET", bench.freezer.keys["queues"], "orders", NO_NUMBERS[turn], b"\xff", "1")
        goes_on(bench, registry, full=full)


# --- fakeredis, which is slow -----------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("server", ["fakeredis"], indirect=True)
@pytest.mark.parametrize("script", ["queue", "claim", "complete", "delete", "sweep"])
def test_damage_spoils_no_call_on_fakeredis(bench: Workbench, script: str) -> None:
    for odd in (b"nan", b"1e400"):
        damage = [all_of(bench, name, [odd], 0) for name in ("config", "counters", "messages", "workers")]
        goes_on(bench, *damage, all_of(bench, "states", [b"I 1 n %s - %s w-1 - " % (odd, b"9" * 30)], 0))
