"""Tokens: what is refused and why, numbered as the cases of the threat list; what narrowing means; golden vectors.

`forge` below is a second implementation of the format, written from its description: it signs anything, so that a
token can be wrong in one respect only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisq import tokens
from redisq.errors import Forbidden, InvalidCredentials, InvalidToken, TokenExpired
from redisq.tokens import Credentials, Grant, encoding, inspect, narrow, sign, verify

NOW = 1_800_000_000
AUDIENCE = "redisq:test"
ALICE = Credentials("alice", "kid-a", hashlib.sha256(b"alice").digest())
BOB = Credentials("bob", "kid-b", hashlib.sha256(b"bob").digest())
KEYS = {ALICE.kid: ALICE, BOB.kid: BOB}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def lp(*texts: str) -> bytes:
    return b"".join(len(text).to_bytes(4, "big") + text.encode() for text in texts)


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def derived(secret: bytes, purpose: str = "redisq/token/v1", app: str = "alice", kid: str = "kid-a") -> bytes:
    return mac(mac(bytes(32), secret), lp(purpose, app, kid) + b"\x01")


def forge(*parts: object, kid: str = "kid-a", key: bytes | None = None) -> str:
    """Sign a payload and caveats: each a dict, the bytes of its JSON, or its base64url text."""
    texts = [part if isinstance(part, str) else b64(part if isinstance(part, bytes) else dumps(part)) for part in parts]
    tag = mac(key or derived(ALICE.key), lp("redisq.token.v1", kid, texts[0]))
    for text in texts[1:]:
        tag = mac(tag, lp(text))
    return ".".join(["rq1", kid, *texts, b64(tag)])


def dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def claims(**changes: object) -> dict[str, object]:
    """Return a good payload with some claims changed; `...` takes one out."""
    good = {"app": "alice", "aud": AUDIENCE, "iat": NOW, "nbf": NOW, "exp": NOW + 900, "jti": "jti0"}
    scope = {"ops": ["get", "queue"], "q": ["mail*", "orders"]}
    return {name: value for name, value in (good | scope | changes).items() if value is not ...}


def raw_claim(name: str, text: str) -> bytes:
    """Return a good payload in which one claim is written as this JSON text."""
    return dumps(claims(**{name: "@"})).replace(b'"@"', text.encode())


def check(token: Any, *, now: float = NOW, keys: Mapping[str, Credentials] = KEYS) -> Grant:
    return verify(token, keys, audience=AUDIENCE, now=now)


GET_ONLY = {"ops": ["get"]}
TOKEN = forge(claims())
NARROWED = forge(claims(), GET_ONLY, {"q": ["orders"]})
PARTS = TOKEN.split(".")
NPARTS = NARROWED.split(".")
OTHER = forge(claims(jti="jti1")).split(".")


def respelled(text: str) -> str:
    """Return another text that a lax decoder reads as the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    assert [base64.urlsafe_b64decode(t + "==") for t in (text, other)] == [base64.urlsafe_b64decode(text + "==")] * 2
    return other


def swap(index: int, part: str) -> str:
    return ".".join([*PARTS[:index], part, *PARTS[index + 1 :]])


class Refusal(NamedTuple):
    name: str
    attempt: Callable[[], object]
    error: type[Exception]
    reason: str | None = None


def malformed_parts() -> Iterator[tuple[str, object, str]]:
    """Cases 1 to 22: the text, the key id and the tag."""
    for bad in ("", None, 7, b"rq1.k\0.p.t", TOKEN.encode(), [TOKEN], "rq1.k\0.p.t"):
        yield f"1 {str(bad)[:9]!r}", bad, "malformed"
    yield "2 2,049 bytes", "rq1." + "A" * 2045, "too_large"
    yield "2 genuine", forge(claims(q=["q" * 100] * 20)), "too_large"
    for space in " \r\n\t\x0b\x1c":
        yield f"3 {space!r} in front", space + TOKEN, "malformed"
        yield f"3 {space!r} behind", TOKEN + space, "malformed"
        yield f"3 {space!r} inside", swap(3, PARTS[3][:9] + space + PARTS[3][9:]), "malformed"
    for char in ("é", "\ud800", "\uff21", "\u0661", "\xa0"):
        yield f"4 {char!a} behind", TOKEN + char, "malformed"
        yield f"4 {char!a} inside", swap(2, char + PARTS[2]), "malformed"
    empty_parts = (swap(2, ""), swap(3, ""), "." + TOKEN, TOKEN + ".", "....")
    for text in ("rq1", "rq1.kid-a", f"rq1.kid-a.{PARTS[3]}", *empty_parts):
        yield f"5 {text[:14]} of {text.count('.') + 1}", text, "malformed"
    yield "5 empty caveat", forge(claims(), ""), "malformed"
    yield "6 nine caveats", forge(claims(), *[GET_ONLY] * 9), "malformed"
    for version in ("rq2", "RQ1", "rq1 ", "rq", "rq11", "Bearer rq1"):
        yield f"7 {version!r}", swap(0, version), "version"
    for header in ({"alg": "HS256", "typ": "JWT"}, {"alg": "none"}):
        jwt = f"{b64(dumps(header))}.{PARTS[2]}.{PARTS[3] if header['alg'] == 'HS256' else ''}"
        yield f"8 JWT {header['alg']}", jwt, "version"
    for kid in ("", "k" * 33, "../x", "' OR 1", "%00", "kid-a\n", "kid/a", "kid+a"):
        yield f"9 {kid!r}", swap(1, kid), "malformed"
    yield "10 unknown", forge(claims(), kid="kid-x"), "unknown_key"
    yield "12 kid of another app put in", swap(1, "kid-b"), "bad_mac"
    yield "12 signed for the kid of another app", forge(claims(app="bob"), kid="kid-b"), "bad_mac"
    for size in range(43):
        part = PARTS[3][:size]
        whole = size > 0 and size % 4 != 1 and b64(base64.urlsafe_b64decode(part + "==")) == part
        yield f"15 tag cut to {size}", swap(3, part), "bad_mac" if whole else "malformed"
    yield "15 tag one character longer", TOKEN + "A", "bad_mac"
    yield "15 tag one byte longer", swap(3, b64(base64.urlsafe_b64decode(PARTS[3] + "=") + b"\0")), "bad_mac"
    yield "16 tag of zeros", swap(3, b64(bytes(32))), "bad_mac"
    yield "16 tag of another token", swap(3, OTHER[3]), "bad_mac"
    yield "17 tag respelled", swap(3, respelled(PARTS[3])), "malformed"
    payload = b64(dumps(claims(jti="0" * (4 + (1 - len(dumps(claims()))) % 3))))
    yield "17 payload respelled, signed so", forge(respelled(payload)), "malformed"
    yield "17 caveat respelled, signed so", forge(claims(), respelled(b64(b'{"exp":10}'))), "malformed"
    for junk in ("=", "==", "+", "/", "!", "%3D", "A.A"):
        yield f"18 {junk!r} inside the tag", swap(3, PARTS[3][:20] + junk + PARTS[3][20:]), "malformed"
    yield "18 padded tag", TOKEN + "=", "malformed"
    yield "18 padded payload, signed so", forge(b64(b"{}") + "="), "malformed"
    standard = base64.b64encode(dumps(claims(more="???>>>~~~"))).decode().rstrip("=")
    assert "/" in standard
    yield "18 alphabet of + and /, signed so", forge(standard), "malformed"
    for name, key in {
        "secret + NUL": derived(ALICE.key + b"\0"),
        "app id": derived(b"alice"),
        "empty secret": derived(b""),
        "secret underived": ALICE.key,
        "empty key": b"",
        "key of nobody": bytes(32),
    }.items():
        yield f"19 {name}", swap(3, b64(mac(key, lp("redisq.token.v1", "kid-a", PARTS[2])))), "bad_mac"
    for purpose in ("redisq/cursor/v1", "redisq/lease/v1", "redisq/token/v2"):
        yield f"20 {purpose}", forge(claims(), key=derived(ALICE.key, purpose)), "bad_mac"
    _, _, body, first, second, tag = NPARTS
    yield "21 payload ends later", f"rq1.kid-a.{body + first[:4]}.{first[4:]}.{second}.{tag}", "bad_mac"
    yield "21 caveat starts earlier", f"rq1.kid-a.{body}.{first[:-4]}.{first[-4:] + second}.{tag}", "bad_mac"
    unprefixed = b64(mac(derived(ALICE.key), f"redisq.token.v1kid-a{PARTS[2]}".encode()))
    yield "21 lengths left out", swap(3, unprefixed), "bad_mac"
    yield "22 payload of another token", swap(2, OTHER[2]), "bad_mac"


def bad_claims() -> Iterator[tuple[str, object, str]]:
    """Cases 25 to 45: genuine tokens that say something wrong, or caveats tampered with."""
    for name in claims():
        yield f"25 no {name}", forge(claims(**{name: ...})), "claim_missing"
    not_integers = ('"180"', "180.0", "true", "[1]", "{}", "null", "1e400", "NaN", "Infinity", "-Infinity")
    not_times = ('"9_999"', '"\u0669\u0669"', "-1", str(2**63), "9" * 1000)
    for name, text in product(("iat", "nbf", "exp"), not_integers):
        yield f"26 {name} {text}", forge(raw_claim(name, text)), "claim_type"
    for name, text in product(("iat", "nbf", "exp"), not_times):
        yield f"27 {name} {text[:20]!a}", forge(raw_claim(name, text)), "claim_type"
    yield "28 exp", forge(claims(iat=NOW - 900, nbf=NOW - 900, exp=NOW - 31)), "expired"
    yield "28 exp in a caveat", forge(claims(), {"exp": NOW - 31}), "expired"
    yield "29 nbf", forge(claims(nbf=NOW + 31)), "not_yet"
    yield "29 nbf in a caveat", forge(claims(), {"nbf": NOW + 31}), "not_yet"
    yield "30 iat", forge(claims(iat=NOW + 31)), "not_yet"
    yield "31 exp = nbf", forge(claims(exp=NOW)), "ttl"
    yield "31 exp < nbf", forge(claims(exp=NOW - 1)), "ttl"
    yield "31 above the cap", forge(claims(exp=NOW + 30 * 86_400 + 1)), "ttl"
    yield "32 unknown claim", forge(claims(sub="root")), "claim_unknown"
    yield "32 claim twice", forge(dumps(claims())[:-1] + b',"exp":9999999999}'), "malformed"
    yield "32 caveat twice", forge(claims(), b'{"exp":1,"exp":9999999999}'), "malformed"
    for text in ("[]", '"x"', "7", "null", "true", "{", "{} {}", "{'a':1}", " "):
        yield f"33 {text!r}", forge(text.encode()), "malformed"
        yield f"33 {text!r} as caveat", forge(claims(), text.encode()), "malformed"
    yield "34 five levels", forge(claims(more=[[[[1]]]])), "malformed"
    yield "34 four levels", forge(claims(more=[[[1]]])), "claim_unknown"
    yield "34 all that fits", forge(b"[" * 1400), "malformed"
    yield "34 all that fits in a caveat", forge(claims(), b'{"a":' * 200), "malformed"
    text = dumps(claims()).decode()
    for name, raw in {
        "UTF-16": text.encode("utf-16"),
        "UTF-16-LE": text.encode("utf-16-le"),
        "UTF-8 BOM": text.encode("utf-8-sig"),
        "not UTF-8": text.replace("jti0", "jti\udcff").encode("utf-8", "surrogateescape"),
    }.items():
        yield f"35 {name}", forge(raw), "malformed"
    for aud in ("redisq:other", "redisq:tes", "redisq:test2", [AUDIENCE], "", "Redisq:test", None, {AUDIENCE: 1}):
        yield f"36 {aud}", forge(claims(aud=aud)), "audience"
    for app in ("bob", "", "Alice", ["alice"], None):
        yield f"37 {app}", forge(claims(app=app)), "app"
    for ops in (["ack"], "get", [], ["get", "GET"], ["get", 1], [["get"]], {"get": 1}, None, ["get "]):
        yield f"40 ops {ops}", forge(claims(ops=ops)), "claim_type"
        yield f"40 ops {ops} in a caveat", forge(claims(), {"ops": ops}), "caveat"
    for queues in ("mail", [], [""], ["a*b"], ["**"], ["*a"], ["a/b"], ["q" * 129], [1], ["é"], [".a"], ["a\n"], None):
        yield f"40 q {str(queues)[:20]!a}", forge(claims(q=queues)), "claim_type"
        yield f"40 q {str(queues)[:20]!a} in a caveat", forge(claims(), {"q": queues}), "caveat"
    for jti in ("", "j" * 65, 7, None, "a.b", "a\n"):
        yield f"40 jti {str(jti)[:9]!a}", forge(claims(jti=jti)), "claim_type"
    head, first, second, tag = ".".join(NPARTS[:3]), *NPARTS[3:]
    edited = b64(dumps({"ops": ["get", "queue", "delete"]}))
    for name, middle in {
        "removed": [first],
        "first removed": [second],
        "all removed": [],
        "reordered": [second, first],
        "duplicated": [first, second, second],
        "edited": [edited, second],
        "added": [first, second, first],
    }.items():
        yield f"43 {name}", ".".join([head, *middle, tag]), "bad_mac"
    yield "44 later exp", forge(claims(iat=NOW - 999, nbf=NOW - 999, exp=NOW - 31), {"exp": NOW + 900}), "expired"
    yield "44 later exp after an earlier", forge(claims(), {"exp": NOW - 31}, {"exp": NOW + 900}), "expired"
    yield "44 earlier nbf", forge(claims(nbf=NOW + 31), {"nbf": 0}), "not_yet"
    for caveat in ({"ip": "10.0.0.1"}, {}, {"exp": NOW + 9, "ops": ["get"]}, {"exp": "1"}, {"nbf": True}, {"exp": -1}):
        yield f"45 {caveat}", forge(claims(), caveat), "caveat"
    yield "45 NaN", forge(claims(), b'{"exp":NaN}'), "caveat"


def other_calls() -> Iterator[Refusal]:
    """Cases that are not about verifying one token with the usual keys."""
    for big in ("A" * 10_000_000, "rq1." * 2_500_000, "é" * 10_000_000):
        yield Refusal(f"2 10 MB of {big[:4]!a}", partial(check, big), InvalidToken, "too_large")
    new = {"kid-c": Credentials("alice", "kid-c", hashlib.sha256(b"next").digest())}
    yield Refusal("11 retired kid", partial(check, TOKEN, keys=new), InvalidToken, "unknown_key")
    parse: Callable[[Any, Any], Credentials] = Credentials.parse
    for secret in WEAK_SECRETS:
        name = f"23 {str(secret)[:24]!a} of {len(str(secret))}"
        yield Refusal(name, partial(parse, "a", secret), InvalidCredentials)
    for app in ("", "-a", "a b", "a" * 65, None, 7, "a\n", "é"):
        yield Refusal(f"23 app {str(app)[:9]!a}", partial(parse, app, ALICE.secret()), InvalidCredentials)
    good: dict[str, Any] = {"audience": AUDIENCE, "ops": ["get"], "queues": ["mail"], "now": NOW}
    nan, inf = float("nan"), float("inf")
    for name, values in {
        "ttl": (0, -1, -0.5, 30 * 86_400 + 0.5, nan, inf, 10**400, True, "900", None, timedelta(1)),
        "now": (nan, -inf, -1, 10**400, True, None, datetime(2030, 1, 1)),
        "ops": ([], ["ack"], "get", None, [["get"]], [b"get"], 7),
        "queues": ([], "mail", b"mail", None, ["a*b"], ["**"], [1], ["a\n"], ["q" * 120 + str(n) for n in range(20)]),
        "audience": ("", None, 7),
        "jti": ("", "j" * 65, "a.b", 7),
    }.items():
        for value in values:
            row = f"24 {name}={str(value)[:20]}"
            yield Refusal(row, partial(sign, ALICE, **(good | {name: value})), ValueError)
    by: Callable[..., str] = narrow
    for name, attempt in {
        "nothing": partial(by, TOKEN),
        "no ops": partial(by, TOKEN, ops=[]),
        "unknown op": partial(by, TOKEN, ops=["ack"]),
        "a bare text": partial(by, TOKEN, queues="mail"),
        "a datetime": partial(by, TOKEN, expires_at=datetime(2030, 1, 1)),
        "NaN": partial(by, TOKEN, not_before=nan),
        "too many": partial(by, forge(claims(), *[GET_ONLY] * 8), ops=["get"]),
        "too large": partial(by, TOKEN, queues=["q" * 120 + str(n) for n in range(20)]),
    }.items():
        yield Refusal(f"24 narrow by {name}", attempt, ValueError)
    grant = check(TOKEN)
    for op in ("delete", "admin", "GET", ""):
        yield Refusal(f"41 {op!r}", partial(grant.require, op, "orders", NOW), Forbidden)
    for queue in (
        "",
        "order",
        "orders2",
        "Orders",
        "Mail",
        "mai",
        "..",
        "*",
        "mail*",
        "ma*il",
        "mail/x",
        "mail\n",
        "é",
    ):
        yield Refusal(f"42 {queue!a}", partial(grant.require, "get", queue, NOW), Forbidden)
    exact = check(forge(claims(q=["mail"])))
    yield Refusal("42 mail is not mailbox", partial(exact.require, "get", "mailbox", NOW), Forbidden)
    more_ops = check(forge(claims(), {"ops": ["get", "delete", "admin"]}))
    yield Refusal("44 more ops", partial(more_ops.require, "delete", "orders", NOW), Forbidden)
    more_queues = check(forge(claims(), {"q": ["*"]}))
    yield Refusal("44 more queues", partial(more_queues.require, "get", "invoices", NOW), Forbidden)


KEY_TEXT = b64(ALICE.key)
MISSHAPEN = "{0} rqs1.k {0}.k.{0} rqs2.k.{0} RQS1.k.{0} rqs1..{0} rqs1.k+k.{0} rqs1.k.{0}A rqs1.k.{0}= rqs1.k.{0}.x"
WEAK_KEYS: list[bytes] = [
    *(b"", ALICE.key[:31], ALICE.key + b"\0", bytes(32), b"\xff" * 32, b"s3cr\xe9t-!" * 4),
    *(bytes(range(32)), bytes(range(0, 64, 2)), bytes(range(255, 223, -1))),
    *(b"Tr0ub4dor&3 is not 32 bytes long", hashlib.sha256(b"x").hexdigest()[:32].encode()),
]
WEAK_SECRETS: list[Any] = [
    *("", None, 7, b"rqs1.k." + KEY_TEXT.encode(), "hunter2", f"rqs1.k.{KEY_TEXT}\n", f"rqs1.{'k' * 33}.{KEY_TEXT}"),
    *MISSHAPEN.format(KEY_TEXT).split(),
    *(f"rqs1.k.{text}" for text in (KEY_TEXT[:-1], respelled(KEY_TEXT), "é" * 43, "+/" * 21 + "A", "\ud800" * 43)),
    *(
        f"rqs1.k.{text}"
        for text in ("correct-horse-battery-staple-correct-horsos", "CORRECT_HORSE_BATTERY_STAPLE_CORRECT_HORSEA")
    ),
    *(f"rqs1.k.{b64(key)}" for key in WEAK_KEYS),
]


def refusals() -> Iterator[Refusal]:
    for name, token, reason in [*malformed_parts(), *bad_claims()]:
        error = TokenExpired if reason == "expired" else InvalidToken
        yield Refusal(name, partial(check, token), error, reason)
    yield from other_calls()


@pytest.mark.parametrize("row", [pytest.param(row, id=ascii(row.name)[1:-1]) for row in refusals()])
def test_refused(row: Refusal) -> None:
    with pytest.raises(row.error) as caught:
        row.attempt()
    assert (type(caught.value), getattr(caught.value, "reason", None)) == (row.error, row.reason)
    shown = str(caught.value)
    assert not any(part in shown for part in [*PARTS[1:], *NPARTS[3:], KEY_TEXT, "jti0", "alice", AUDIENCE])


def test_the_table_starts_from_good_tokens() -> None:
    grant = Grant("alice", frozenset({"get", "queue"}), ("mail*", "orders"), NOW, NOW + 900, "jti0")
    assert check(TOKEN) == grant
    assert check(NARROWED) == Grant("alice", frozenset({"get"}), ("orders",), NOW, NOW + 900, "jti0")
    assert grant.require("get", "mailbox", NOW) is None  # type: ignore[func-returns-value]
    assert [grant.allows("queue", name) for name in ("mail", "mail.1", "orders")] == [True] * 3


@pytest.mark.parametrize(
    "token",
    [
        forge(claims(iat=NOW - 900, nbf=NOW - 900, exp=NOW - 30)),
        forge(claims(iat=NOW + 30, nbf=NOW + 30)),
        forge(claims(exp=NOW + 30 * 86_400)),
        forge(claims(), {"nbf": NOW + 30}),
        forge(claims(), {"exp": NOW - 30}),
        forge(claims(), *[GET_ONLY] * 8),
    ],
    ids=["exp", "iat and nbf", "ttl", "nbf caveat", "exp caveat", "eight caveats"],
)
def test_limits_themselves_are_allowed(token: str) -> None:
    assert check(token).allows("get", "orders")


def test_the_size_limit_is_2048_bytes() -> None:
    body = next(
        text
        for n in range(128)
        if len(text := b64(dumps(claims(q=["q" * 128] * 10 + ["q" * (n + 1)])))) in range(1970, 1990)
    )

    def sized(size: int) -> str:
        kid = "k" * (size - len(f"rq1..{body}.{PARTS[3]}"))
        keys[kid] = Credentials("alice", kid, ALICE.key)
        return forge(body, kid=kid, key=derived(ALICE.key, kid=kid))

    keys: dict[str, Credentials] = {}
    assert len(sized(2048)) == 2048
    assert check(sized(2048), keys=keys).jti == "jti0"
    with pytest.raises(InvalidToken) as caught:
        check(sized(2049), keys=keys)
    assert caught.value.reason == "too_large"


def test_checks_come_in_order() -> None:
    """Each fault is reported in the presence of all that are checked after it."""
    faults: list[tuple[str, dict[str, object]]] = [
        ("claim_missing", {"jti": ...}),
        ("claim_type", {"ops": []}),
        ("claim_unknown", {"sub": "root"}),
        ("audience", {"aud": "redisq:other"}),
        ("app", {"app": "bob"}),
        ("ttl", {"nbf": NOW + 31, "exp": NOW + 31}),
        ("not_yet", {"iat": NOW + 31, "exp": NOW - 31 + 900}),
    ]
    for index, (reason, _) in enumerate(faults):
        changes: dict[str, object] = {}
        for _, change in reversed(faults[index:]):
            changes |= change
        assert reason_of(forge(claims(**changes), {"ip": "10.0.0.1"})) == reason
    assert reason_of(forge(claims(nbf=NOW + 31), {"ip": "10.0.0.1"})) == "not_yet"
    assert reason_of(forge(claims(iat=0, nbf=0, exp=1), {"ip": "10.0.0.1"})) == "expired"
    assert reason_of(forge(b"not JSON", key=BOB.key)) == "bad_mac"
    assert reason_of(forge(b"not JSON", kid="kid-x")) == "unknown_key"
    assert reason_of(forge("not base64", kid="kid-x")) == "malformed"
    assert reason_of(swap(0, "rq2").replace("kid-a", "../x")) == "version"
    assert reason_of("rq2.é") == reason_of("rq2.\n.") == "malformed"
    assert reason_of("rq2." + "é" * 2048) == "too_large"


def reason_of(token: Any, keys: Mapping[str, Credentials] = KEYS) -> str:
    """Return why a token is refused; anything but InvalidToken escapes, and acceptance fails the test."""
    with pytest.raises(InvalidToken) as caught:
        check(token, keys=keys)
    return caught.value.reason


@pytest.mark.parametrize("token", [TOKEN, NARROWED], ids=["token", "narrowed"])
def test_every_flipped_bit_of_the_text_is_refused(token: str) -> None:
    seen: dict[int, set[str]] = {}
    for position, bit in product(range(len(token)), range(8)):
        flipped = token[:position] + chr(ord(token[position]) ^ 1 << bit) + token[position + 1 :]
        seen.setdefault(token[:position].count("."), set()).add(reason_of(flipped))
    version, kid, *sealed = seen.values()
    assert version <= {"version", "malformed"}
    assert kid == {"unknown_key", "malformed"}
    assert all(reasons == {"bad_mac", "malformed"} for reasons in sealed)


@pytest.mark.parametrize("token", [TOKEN, NARROWED], ids=["token", "narrowed"])
def test_every_flipped_bit_of_what_is_signed_is_a_bad_mac(token: str) -> None:
    """Cases 13 and 14: the bits of payload, caveats and tag, and those of a key id that is also known."""
    version, kid, *texts = token.split(".")
    for index, text in enumerate(texts):
        raw = base64.urlsafe_b64decode(text + "==")
        for bit in range(8 * len(raw)):
            other = b64((int.from_bytes(raw) ^ 1 << bit).to_bytes(len(raw)))
            assert reason_of(".".join([version, kid, *texts[:index], other, *texts[index + 1 :]])) == "bad_mac"
    for position, bit in product(range(len(kid)), range(8)):
        other = kid[:position] + chr(ord(kid[position]) ^ 1 << bit) + kid[position + 1 :]
        if encoding.KID.fullmatch(other):
            assert reason_of(".".join([version, other, *texts]), keys={other: ALICE}) == "bad_mac"


def test_deep_nesting_and_long_numbers_are_refused_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases 27 and 34 with the size limit lifted, so that the parser itself is put to the test."""
    monkeypatch.setattr(encoding, "MAX_TOKEN_BYTES", 10_000_000)
    open_and_shut = b"[" * 100_000 + b"]" * 100_000
    for raw in (b"[" * 100_000, open_and_shut, b'{"a":' * 100_000, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"):
        assert reason_of(forge(raw)) == "malformed"
        assert reason_of(forge(claims(), raw)) == "malformed"
    assert reason_of(forge(raw_claim("exp", "9" * (sys.get_int_max_str_digits() + 700)))) == "malformed"


def test_an_oversized_text_is_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Touched(BaseException):
        pass

    def touched(*_: object, **__: object) -> None:
        raise Touched

    for owner, name in ((base64, "urlsafe_b64decode"), (hmac, "digest"), (hmac, "compare_digest"), (encoding, "parse")):
        monkeypatch.setattr(owner, name, touched)
    with pytest.raises(Touched):
        check(TOKEN)
    for call in (check, inspect, partial(narrow, ops=["get"])):
        for size in (2045, 10_000_000):
            with pytest.raises(InvalidToken) as caught:
                call("rq1." + "A" * size)
            assert caught.value.reason == "too_large"


def test_nothing_is_parsed_before_the_tag_has_been_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown key id takes the same path, up to the comparison."""
    steps: list[str] = []

    def noting(step: str, function: Callable[..., Any], *arguments: object) -> Any:
        steps.append(step)
        return function(*arguments)

    monkeypatch.setattr(hmac, "compare_digest", partial(noting, "compare", hmac.compare_digest))
    monkeypatch.setattr(encoding, "parse", partial(noting, "parse", encoding.parse))
    check(NARROWED)
    assert steps == ["compare", "parse", "parse", "parse"]
    for token in (swap(3, b64(bytes(32))), swap(1, "kid-x")):
        steps.clear()
        assert reason_of(token) in {"bad_mac", "unknown_key"}
        assert steps == ["compare"]


unhurried = settings(deadline=None, database=None)
texts = st.text()
anything = (
    texts | st.binary() | st.none() | st.integers() | st.floats() | st.lists(texts) | st.dictionaries(texts, texts)
)
parts = st.lists(st.text(max_size=9) | st.sampled_from([*PARTS, *NPARTS, "rq1", "kid-a", "..", "="]), max_size=9)
dotted = parts.map(".".join) | parts.map(lambda rest: ".".join(["rq1", "kid-a", *rest]))


@unhurried
@given(anything | dotted)
def test_no_foreign_exception_escapes_from_any_object(token: Any) -> None:
    calls: list[Callable[[Any], object]] = [check, inspect]
    if str(token).count(".") < 11:  # else a further caveat is the caller's mistake
        calls.append(partial(narrow, ops=["get"]))
    for call in calls:
        try:
            call(token)
        except InvalidToken:
            continue
        assert token in (TOKEN, NARROWED) or call is not check


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([NOW, "get", "a*"])
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=9,
)
names = st.sampled_from([*claims(), "ip", "sub"])


@unhurried
@given(
    st.dictionaries(names, json_values, max_size=2),
    st.lists(st.dictionaries(names, json_values, max_size=2), max_size=2),
)
def test_no_foreign_exception_escapes_from_any_signed_json(
    changes: dict[str, Any], caveats: list[dict[str, Any]]
) -> None:
    token = forge(claims(**changes), *caveats)
    try:
        grant = check(token)
    except InvalidToken:
        return
    assert grant.ops <= {"get", "queue"} | set(changes.get("ops", ()))
    assert grant.expires_at <= NOW + tokens.LEEWAY + tokens.MAX_TTL


@unhurried
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3))
def test_no_foreign_exception_escapes_from_any_signed_bytes(parts: list[bytes]) -> None:
    assert reason_of(forge(*parts)) in {"malformed", "claim_missing"}


ops_lists = st.lists(st.sampled_from(sorted(tokens.OPS)), min_size=1, max_size=4)
patterns = st.one_of(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=2).map("{}*".format))
queue_lists = st.lists(patterns, min_size=1, max_size=4)
QUEUES = ["".join(letters) for size in (1, 2, 3, 4) for letters in product("ab", repeat=size)]


@unhurried
@given(ops_lists, queue_lists, st.lists(st.tuples(st.none() | ops_lists, st.none() | queue_lists), max_size=3))
def test_narrowing_is_exactly_intersection(
    ops: list[str], queues: list[str], steps: list[tuple[list[str] | None, list[str] | None]]
) -> None:
    """After each step a queue is allowed if every list so far matches it: so never more than the step before."""
    token = sign(ALICE, audience=AUDIENCE, ops=ops, queues=queues, now=NOW)
    op_lists, lists = [ops], [queues]
    for step_ops, step_queues in [(None, None), *steps]:
        if step_ops or step_queues:
            token = narrow(token, ops=step_ops, queues=step_queues)
        op_lists += [step_ops] if step_ops else []
        lists += [step_queues] if step_queues else []
        matchers = [re.compile("|".join(pattern.replace("*", ".*") for pattern in each)) for each in lists]
        named = {queue for queue in QUEUES if all(matcher.fullmatch(queue) for matcher in matchers)}
        allowed = set(product(set.intersection(*map(set, op_lists)), named))
        grant = check(token)
        assert {pair for pair in product(tokens.OPS, QUEUES) if grant.allows(*pair)} == allowed


def test_narrowing_in_time() -> None:
    """The earliest end and the latest start hold, fractions rounded towards less."""
    short = narrow(TOKEN, expires_at=NOW + 60.9)
    assert check(short).expires_at == check(narrow(short, expires_at=NOW + 600)).expires_at == NOW + 60
    late = narrow(narrow(TOKEN, not_before=NOW + 99.1), not_before=NOW + 50)
    assert reason_of(late) == "not_yet"
    assert check(late, now=NOW + 70).expires_at == NOW + 900
    with pytest.raises(InvalidToken):
        check(late, now=NOW + 69)


def test_one_caveat_for_each_argument() -> None:
    narrowed = narrow(TOKEN, ops=["queue", "get"], queues={"orders"}, expires_at=NOW, not_before=NOW)
    assert inspect(narrowed) == {
        "kid": "kid-a",
        "payload": claims(),
        "caveats": [{"ops": ["get", "queue"]}, {"q": ["orders"]}, {"exp": NOW}, {"nbf": NOW}],
    }


@pytest.mark.parametrize("number", ["1.5", "1e400", "NaN", "-Infinity"])
def test_what_inspect_returns_can_always_be_written_as_json(number: str) -> None:
    assert inspect(forge(raw_claim("exp", number)))["payload"] == claims(exp=None)


def test_a_grant_expires_while_it_is_held() -> None:
    grant = check(TOKEN)
    grant.require("get", "orders", NOW + 930)
    with pytest.raises(TokenExpired):
        grant.require("get", "orders", NOW + 931)
    with pytest.raises(TokenExpired):
        grant.require("delete", "orders", NOW + 931)


def test_forbidden_names_the_operation_and_the_queue() -> None:
    with pytest.raises(Forbidden, match="does not allow delete on queue 'orders'"):
        check(TOKEN).require("delete", "orders", NOW)
    with pytest.raises(Forbidden) as caught:
        check(TOKEN).require("get", "\n" * 1_000_000, NOW)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_two_live_keys_verify_during_a_rotation() -> None:
    new = Credentials.generate("alice")
    keys = KEYS | {new.kid: new}
    made = sign(new, audience=AUDIENCE, ops=["get"], queues=["*"], now=NOW)
    assert check(made, keys=keys).app == check(TOKEN, keys=keys).app == "alice"


def test_signing_defaults() -> None:
    one, two = (check(sign(ALICE, audience=AUDIENCE, ops=["get"], queues=["*"], now=NOW + 0.9)) for _ in range(2))
    assert (one.issued_at, one.expires_at) == (NOW, NOW + 900)
    assert one.jti != two.jti
    assert len(base64.urlsafe_b64decode(one.jti + "==")) == 16
    brief = sign(ALICE, audience=AUDIENCE, ops=["get"], queues=["*"], now=NOW, ttl=0.1)
    assert check(brief).expires_at == NOW + 1


def test_credentials_survive_their_text() -> None:
    for credentials in (ALICE, *(Credentials.generate("app.1") for _ in range(50))):
        assert Credentials.parse(credentials.app, credentials.secret()) == credentials
    assert re.fullmatch(r"rqs1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{43}", credentials.secret())
    assert Credentials.generate("a").key != Credentials.generate("a").key


def test_a_hash_passes_for_random() -> None:
    assert Credentials.parse("bench", "rqs1.bench1." + b64(hashlib.sha256(b"bench").digest())).kid == "bench1"


def test_credentials_show_no_key() -> None:
    assert repr(ALICE) == "Credentials(app='alice', kid='kid-a')"


def test_hkdf_against_rfc_5869() -> None:
    """Test cases 1 and 3 of appendix A."""
    secret, salt, info = b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA))
    assert encoding.hkdf(secret, salt=salt, info=info, length=42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert encoding.hkdf(secret, info=b"", length=42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


GOLDEN = (
    "rq1.kid-a.eyJhcHAiOiJhbGljZSIsImF1ZCI6InJlZGlzcTp0ZXN0IiwiaWF0IjoxODAwMDAwMDAwLCJuYmYiOjE4MDAwMDAwMDAsIm"
    "V4cCI6MTgwMDAwMDkwMCwianRpIjoianRpMCIsIm9wcyI6WyJnZXQiLCJxdWV1ZSJdLCJxIjpbIm1haWwqIiwib3JkZXJzIl19.1fx_F"
    "oTakZWijiXrYDDsdg4lha8mjtK4pE2pF78_fd8"
)
GOLDEN_NARROWED = (
    "rq1.kid-a.eyJhcHAiOiJhbGljZSIsImF1ZCI6InJlZGlzcTp0ZXN0IiwiaWF0IjoxODAwMDAwMDAwLCJuYmYiOjE4MDAwMDAwMDAsIm"
    "V4cCI6MTgwMDAwMDkwMCwianRpIjoianRpMCIsIm9wcyI6WyJnZXQiLCJxdWV1ZSJdLCJxIjpbIm1haWwqIiwib3JkZXJzIl19.eyJvc"
    "HMiOlsiZ2V0Il19.eyJxIjpbIm9yZGVycyJdfQ.jL5r9RmCs1p3b0Qd46lnXLfE4edfznEZ3lNdc8rUotU"
)


def test_golden_vectors() -> None:
    """These texts may never change: tokens made by one release are verified by another, and by other languages."""
    assert ALICE.secret() == "rqs1.kid-a.K9gGyX8OAK8aH8Myj6djqSaXI8jbj6xPk69x2xhtbpA"
    made = sign(ALICE, audience=AUDIENCE, ops=["queue", "get"], queues=["orders", "mail*"], now=NOW, jti="jti0")
    assert made == GOLDEN == forge(claims())
    narrowed = narrow(GOLDEN, ops=["get"], queues=["orders"])
    assert narrowed == GOLDEN_NARROWED == forge(claims(), GET_ONLY, {"q": ["orders"]})
