"""Scopes, and what the scope caveat makes of a token: exactly the pairs that every list allows."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisq import tokens
from redisq.errors import Forbidden, InvalidToken
from redisq.tokens import Grant
from redisq.tokens.scopes import EVERYTHING, OPS, Scopes, is_pair
from tests.unit.test_tokens import ALICE, AUDIENCE, NOW, TOKEN, check, claims, forge, reason_of

patterns = st.one_of(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=2).map("{}*".format))
some_ops = st.sampled_from(["queue", "get", "work"])
pair_lists = st.lists(st.builds("{}:{}".format, some_ops, patterns), min_size=1, max_size=4)
QUEUES = ["".join(letters) for size in (1, 2, 3, 4) for letters in product("ab", repeat=size)]


def meant(texts: list[str]) -> set[tuple[str, str]]:
    """The operations and queues that a list of pairs means, read another way."""
    found = set()
    for text in texts:
        op, pattern = text.split(":")
        found |= {(op, queue) for queue in QUEUES if re.fullmatch(pattern.replace("*", ".*"), queue)}
    return found


@given(pair_lists, pair_lists)
def test_scopes_mean_what_they_say(ours: list[str], theirs: list[str]) -> None:
    one, other = Scopes.parse(ours), Scopes.parse(theirs)

    def allowed(scopes: Scopes) -> set[tuple[str, str]]:
        return {pair for pair in product(sorted(OPS), QUEUES) if scopes.allows(*pair)}

    assert allowed(one) == meant(ours)
    assert allowed(one.intersection(other)) == meant(ours) & meant(theirs)
    assert Scopes.parse(one.texts()) == one
    assert EVERYTHING.covers(one)
    if one.covers(other):
        assert meant(theirs) <= meant(ours)


@given(st.lists(pair_lists, min_size=1, max_size=3))
def test_a_scope_caveat_only_takes_away(steps: list[list[str]]) -> None:
    token = tokens.sign(ALICE, audience=AUDIENCE, ops=["queue", "get"], queues=["a*", "b"], now=NOW)
    left = {(op, queue) for op in ("queue", "get") for queue in QUEUES if queue == "b" or queue[0] == "a"}
    for step in steps:
        token = tokens.narrow(token, scope=step)
        left &= meant(step)
        grant = check(token)
        assert {pair for pair in product(sorted(OPS), QUEUES) if grant.allows(*pair)} == left
        assert {pair for pair in product(sorted(OPS), QUEUES) if grant.effective().allows(*pair)} == left


def test_several_operations_at_once() -> None:
    assert Scopes.parse(["queue,get:orders", "work:reports.*"]).texts() == [
        "get:orders",
        "queue:orders",
        "work:reports.*",
    ]


BAD = ["", "get", "get:", ":orders", "get orders", "get:a*b", "get:*a", "GET:orders", "ack:orders", "get:a:b"]
BAD += ["get:orders\n", " get:orders", "get:é", "get:" + "q" * 129, "get:a,b", "get,:a", ",get:a", "get,,queue:a"]


@pytest.mark.parametrize("text", BAD, ids=ascii)
def test_bad_scopes(text: str) -> None:
    with pytest.raises(ValueError, match="is no scope"):
        Scopes.parse([text])
    assert not is_pair(text)
    assert reason_of(forge(claims(), {"scope": [text]})) == "caveat"
    with pytest.raises(ValueError, match="scope"):
        tokens.narrow(TOKEN, scope=[text])


@pytest.mark.parametrize(
    "value", [[], "get:orders", None, {"get:orders": 1}, [1], ["get,queue:orders"], 7, [["get:a"]]]
)
def test_other_shapes_are_no_scope_caveat(value: object) -> None:
    assert reason_of(forge(claims(), {"scope": value})) == "caveat"


def test_no_scopes_at_all() -> None:
    with pytest.raises(ValueError, match="a scope is needed"):
        Scopes.parse([])


def test_everywhere_means_every_list() -> None:
    full = tokens.sign(ALICE, audience=AUDIENCE, ops=["stats", "get"], queues=["*"], now=NOW)
    assert check(full).allows_everywhere("stats")
    assert not check(full).allows_everywhere("admin")
    assert not check(TOKEN).allows_everywhere("get")
    assert check(tokens.narrow(full, scope=["stats:*", "get:a"])).allows_everywhere("stats")
    assert not check(tokens.narrow(full, scope=["stats:a*", "get:*"])).allows_everywhere("stats")


# --- The ip caveat ---


def bound(*caveats: object) -> Grant:
    return check(forge(claims(), *({"ip": caveat} for caveat in caveats)))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ("2001:DB8::1", "2001:db8:0:0::1", "2001:db8::2"),
        ("0.0.0.0/0", "1.2.3.4", "2001:db8::1"),
        ("::/0", "2001:db8::1", "1.2.3.4"),
        ("fe80::/10", "fe80::1%eth0", "fec0::1%eth0"),
        ("10.0.0.0/8", "10.0.0.1", ""),
        ("10.0.0.0/8", "10.0.0.1", "/run/redisq.sock"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.1, 11.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "010.0.0.1"),
    ],
)
def test_46_an_address_is_inside_or_refused(network: str, inside: str, outside: str) -> None:
    grant = bound([network])
    grant.require_address(inside)
    with pytest.raises(Forbidden, match="not good from this address"):
        grant.require_address(outside)
    assert grant.allows("get", "orders")


def test_a_token_without_the_caveat_is_good_from_anywhere() -> None:
    for address in ("10.0.0.1", "", "nonsense"):
        check(TOKEN).require_address(address)


def test_several_ip_caveats_all_have_to_hold() -> None:
    grant = bound(["10.0.0.0/8", "2001:db8::/32"], ["10.1.0.0/16", "192.168.0.0/16"])
    assert [str(network) for network in grant.addresses] == ["10.1.0.0/16"]
    grant.require_address("10.1.9.9")
    for address in ("10.2.0.1", "192.168.0.1", "2001:db8::1"):
        with pytest.raises(Forbidden):
            grant.require_address(address)


def test_ip_caveats_that_exclude_each_other_allow_nothing() -> None:
    """An empty list of addresses would mean any."""
    grant = bound(["10.0.0.0/8"], ["11.0.0.0/8"])
    assert not any(grant.allows(op, "orders") for op in OPS)
    assert not grant.effective().pairs


BAD_NETWORKS = ["10.0.0.1/8", "10.0.0.0/255.0.0.0", "10.0.0.0/33", "10.0.0", "10.0.0.0/", "localhost", "::1%lo", "é"]
BAD_NETWORKS += [
    "2001:db8::1/32",
    "::/129",
    "10.0.0.0/-1",
    " 10.0.0.1",
    "10.0.0.1\n",
    "",
    "\u0661.0.0.1",
    "1",
    "010.0.0.1",
]


@pytest.mark.parametrize("text", BAD_NETWORKS, ids=ascii)
def test_what_is_no_address_is_no_caveat(text: str) -> None:
    assert reason_of(forge(claims(), {"ip": [text]})) == "caveat"
    with pytest.raises(ValueError, match="addresses"):
        tokens.narrow(TOKEN, addresses=[text])


@pytest.mark.parametrize("value", ["10.0.0.1", [], [167772161], None, {"10.0.0.1": 1}, ["10.0.0.1", 7]])
def test_other_shapes_are_no_ip_caveat(value: object) -> None:
    assert reason_of(forge(claims(), {"ip": value})) == "caveat"


def test_narrowing_writes_both_caveats() -> None:
    narrowed = tokens.narrow(TOKEN, scope=["queue:orders", "get:orders"], addresses=["10.0.0.0/8"])
    assert tokens.inspect(narrowed)["caveats"] == [{"scope": ["get:orders", "queue:orders"]}, {"ip": ["10.0.0.0/8"]}]
    with pytest.raises(InvalidToken):
        check(narrowed.replace(narrowed.split(".")[4] + ".", ""))


def test_addresses_are_loaded_only_for_a_token_that_has_some() -> None:
    import subprocess
    import sys

    code = "import sys; from redisq import tokens; print('ipaddress' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
