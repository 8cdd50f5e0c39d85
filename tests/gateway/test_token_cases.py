"""The 48 cases of the threat list over HTTP: a row or more for each number, sent to a whole gateway on a port.

`tests/unit/test_tokens.py` has them for `verify` alone, with the reason of each. Here it is what a stranger sees: the
status, the code, and that all 401 look alike whatever the cause, but for expiry.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from pydantic import SecretStr

from redisq import Credentials, Settings, Status, tokens
from redisq.errors import InvalidCredentials, InvalidSettings
from redisq.operations import applications as directory
from redisq.tokens import OPS
from tests.conftest import REAL_SERVERS, settings_for, started
from tests.gateway.conftest import MASTER
from tests.support.gateways.in_process import Answer, LiveGateway, bearer
from tests.support.servers.proxy import until
from tests.support.shell import Shell
from tests.unit import test_tokens as unit
from tests.unit.test_tokens import WEAK_KEYS, WEAK_SECRETS, b64, dumps, lp, mac, respelled

NONE = [pytest.param("none", marks=pytest.mark.skip("no real Redis here"))]
REFUSED, EXPIRED, FORBIDDEN = (401, "invalid_token"), (401, "token_expired"), (403, "forbidden")
UNSENT = (400, "bad_request")  # no token at all got through: the head of the request cannot be read
GOOD = (200, "")
QUEUES = ("mail", "mailbox", "Mail", "orders")


class World:
    """A gateway, applications with known key ids, and a forger who can sign anything with their keys."""

    def __init__(self, gateway: LiveGateway) -> None:
        self.gateway = gateway
        everything = f"{','.join(sorted(OPS))}:*"
        self.alice = gateway.enrol("alice", "kid-a", MASTER, everything)
        self.bob = gateway.enrol("bob", "kid-b", MASTER, everything)
        self.audience = gateway.settings.token_audience
        self.paths = {queue: f"/{queue}/{gateway.queue(queue, {'secret': queue})}" for queue in QUEUES}
        self.now = int(time.time())
        self.token = self.forge(self.claims())
        self.narrowed = self.forge(self.claims(), {"ops": ["get"]}, {"q": ["orders"]})
        self.other = self.forge(self.claims(jti="jti1")).split(".")
        self.parts = self.token.split(".")

    def claims(self, **changes: object) -> dict[str, object]:
        """A good payload with some claims changed; `...` takes one out."""
        now = self.now
        times = {"aud": self.audience, "iat": now, "nbf": now, "exp": now + 900, "jti": "jti0", "app": "alice"}
        return unit.claims(**{**times, **changes})

    def raw_claim(self, name: str, text: str) -> bytes:
        return dumps(self.claims(**{name: "@"})).replace(b'"@"', text.encode())

    def forge(self, *parts: object, kid: str = "kid-a", key: bytes | None = None) -> str:
        return unit.forge(*parts, kid=kid, key=key or self.key())

    def key(self, secret: bytes | None = None, purpose: str = "redisq/token/v1") -> bytes:
        return unit.derived(self.alice.key if secret is None else secret, purpose)

    def swap(self, index: int, part: str) -> str:
        return ".".join([*self.parts[:index], part, *self.parts[index + 1 :]])

    def sign(self, credentials: Credentials | None = None, **how: Any) -> str:
        how = {"ops": OPS, "queues": ["*"], "now": time.time(), **how}
        return tokens.sign(credentials or self.alice, audience=self.audience, **how)

    def get(self, token: str | bytes | None, *more: bytes, path: str | None = None) -> Answer:
        return self.gateway.get(path or self.paths["orders"], token, *more)


class Row(NamedTuple):
    """A request: a token, or what is sent in its place, and what has to come back."""

    name: str
    token: str | bytes | None
    expected: tuple[int, str] = REFUSED
    headers: tuple[bytes, ...] = ()
    path: str | None = None


Rows = Callable[[World], Iterator[Row]]
CASES: dict[int, Rows] = {}


def case(number: int) -> Callable[[Rows], Rows]:
    def note(rows: Rows) -> Rows:
        assert number not in CASES
        CASES[number] = rows
        return rows

    return note


# --- The text ---


@case(1)
def no_token(_: World) -> Iterator[Row]:
    yield Row("no header", None)
    yield Row("empty", "")
    yield Row("None", "None")
    yield Row("a number", "7")
    yield Row("with NUL", b"rq1.k\0.p.t", UNSENT)


@case(2)
def too_large(world: World) -> Iterator[Row]:
    yield Row("2,049 bytes", "rq1." + "A" * 2045)
    yield Row("genuine, too large", world.forge(world.claims(q=["q" * 100] * 20)))
    yield Row("all of a head that is read", "rq1." + "A" * 15_000)
    yield Row("10 MB", "rq1." + "A" * 10_000_000, (431, "head_too_large"))


@case(3)
def spaces(world: World) -> Iterator[Row]:
    for space in (b" ", b"\t"):
        several = GOOD if space == b" " else REFUSED  # one or more spaces stand between the scheme and the token
        yield Row(f"{space!r} in front", space + world.token.encode(), several)
        yield Row(f"{space!r} inside", world.swap(3, world.parts[3][:9] + space.decode() + world.parts[3][9:]))
        yield Row(f"{space!r} behind", world.token.encode() + space, GOOD)  # there it is no part of the value
    for space in (b"\r", b"\n", b"\r\n ", b"\n\t", b"\x0b", b"\x1c"):
        for name, text in {
            "in front": space + world.token.encode(),
            "inside": world.token[:40].encode() + space + world.token[40:].encode(),
            "behind": world.token.encode() + space,
        }.items():
            yield Row(f"{space!r} {name}", text, UNSENT)


@case(4)
def not_ascii(world: World) -> Iterator[Row]:
    for char in ("é", "\ud800", "\uff21", "\u0661", "\xa0"):
        yield Row(f"{char!a} behind", world.token + char)
        yield Row(f"{char!a} inside", world.swap(2, char + world.parts[2]))
    yield Row("a byte of Latin-1", world.token.encode() + b"\xe9")


@case(5)
def few_parts(world: World) -> Iterator[Row]:
    parts = world.parts
    empty = (world.swap(2, ""), world.swap(3, ""), "." + world.token, world.token + ".", "....", "...", "..")
    for text in ("rq1", "rq1.kid-a", f"rq1.kid-a.{parts[3]}", *empty, world.forge(world.claims(), "")):
        yield Row(text[:20], text)


@case(6)
def many_caveats(world: World) -> Iterator[Row]:
    get_only = {"ops": ["get"]}
    yield Row("eight", world.forge(world.claims(), *[get_only] * 8), GOOD)
    yield Row("nine", world.forge(world.claims(), *[get_only] * 9))


@case(7)
def versions(world: World) -> Iterator[Row]:
    for version in ("rq2", "RQ1", "rq1 ", "rq", "rq11", "Bearer rq1"):
        yield Row(version, world.swap(0, version))


@case(8)
def jwt(world: World) -> Iterator[Row]:
    said = b64(dumps(world.claims(sub="alice")))
    yield Row("HS256", f"{b64(dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{said}.{world.parts[3]}")
    yield Row("alg none", f"{b64(dumps({'alg': 'none'}))}.{said}.")


@case(9)
def bad_kid(world: World) -> Iterator[Row]:
    for kid in ("", "k" * 33, "../x", "' OR 1", "%00", "kid/a", "kid+a"):
        yield Row(kid, world.swap(1, kid))


@case(10)
def unknown_kid(world: World) -> Iterator[Row]:
    yield Row("unknown", world.forge(world.claims(), kid="kid-x"))
    yield Row("of the master key", world.forge(world.claims(), kid=MASTER.kid[:32], key=world.key(MASTER.key)))


@case(11)
def retired_kid(world: World) -> Iterator[Row]:
    gateway = world.gateway
    carol = gateway.enrol("carol", "kid-c", MASTER, "get:*")
    old = world.sign(carol)
    yield Row("before", old, GOOD)
    gateway.change(directory.rotate(gateway.settings, "carol", 1))
    until(lambda: world.get(old).status == 401)
    yield Row("after the overlap", old)
    yield Row("and a new one of it", world.sign(carol))


@case(12)
def foreign_kid(world: World) -> Iterator[Row]:
    yield Row("put in", world.swap(1, "kid-b"))
    yield Row("signed for it", world.forge(world.claims(app="bob"), kid="kid-b"))


@case(13)
def flipped_tag(world: World) -> Iterator[Row]:
    raw = base64.urlsafe_b64decode(world.parts[3] + "=")
    for bit in range(256):
        yield Row(f"bit {bit}", world.swap(3, b64(_flipped(raw, bit))))


@case(14)
def flipped_rest(world: World) -> Iterator[Row]:
    parts = world.narrowed.split(".")
    for index in (2, 3, 4):
        raw = base64.urlsafe_b64decode(parts[index] + "==")
        for bit in range(0, len(raw) * 8, 3):
            yield Row(
                f"part {index} bit {bit}", ".".join([*parts[:index], b64(_flipped(raw, bit)), *parts[index + 1 :]])
            )
    for bit in range(len("kid-a") * 8):
        text = world.narrowed.encode()
        changed = text[:4] + _flipped(text[4:9], bit) + text[9:]
        printed = all(0x20 <= byte != 0x7F for byte in changed)
        yield Row(f"key id bit {bit}", changed, REFUSED if printed else UNSENT)


@case(15)
def cut_tag(world: World) -> Iterator[Row]:
    for size in range(43):
        yield Row(f"cut to {size}", world.swap(3, world.parts[3][:size]))
    yield Row("one character longer", world.token + "A")
    yield Row("one byte longer", world.swap(3, b64(base64.urlsafe_b64decode(world.parts[3] + "=") + b"\0")))


@case(16)
def foreign_tag(world: World) -> Iterator[Row]:
    yield Row("zeros", world.swap(3, b64(bytes(32))))
    yield Row("of another token", world.swap(3, world.other[3]))


@case(17)
def spelled_in_another_way(world: World) -> Iterator[Row]:
    yield Row("tag", world.swap(3, respelled(world.parts[3])))
    said = dumps(world.claims(jti=""))
    payload = b64(dumps(world.claims(jti="0" * (4 + (1 - len(said) - 4) % 3))))
    yield Row("payload, signed so", world.forge(respelled(payload)))
    yield Row("caveat, signed so", world.forge(world.claims(), respelled(b64(b'{"exp":10}'))))


@case(18)
def junk(world: World) -> Iterator[Row]:
    for text in ("=", "==", "+", "/", "!", "%3D", "A.A"):
        yield Row(f"{text} inside the tag", world.swap(3, world.parts[3][:20] + text + world.parts[3][20:]))
    yield Row("padded", world.token + "=")
    yield Row("padded payload, signed so", world.forge(b64(b"{}") + "="))
    standard = base64.b64encode(dumps(world.claims(more="???>>>~~~"))).decode().rstrip("=")
    assert "/" in standard
    yield Row("alphabet of + and /, signed so", world.forge(standard))


@case(19)
def wrong_keys(world: World) -> Iterator[Row]:
    for name, key in {
        "secret + NUL": world.key(world.alice.key + b"\0"),
        "application's name": world.key(b"alice"),
        "empty secret": world.key(b""),
        "secret underived": world.alice.key,
        "empty key": b"",
        "key of nobody": bytes(32),
        "the master key": MASTER.key,
    }.items():
        tag = b64(mac(key, lp("redisq.token.v1", "kid-a", world.parts[2])))
        yield Row(name, world.swap(3, tag))


@case(20)
def other_purposes(world: World) -> Iterator[Row]:
    for purpose in ("redisq/cursor/v1", "redisq/lease/v1", "redisq/token/v2", "redisq/application/v1"):
        yield Row(purpose, world.forge(world.claims(), key=world.key(purpose=purpose)))
    yield Row("a record's", world.swap(3, b64(MASTER.tag(world.gateway.settings.namespace, "alice", world.parts[2]))))


@case(21)
def shifted_boundaries(world: World) -> Iterator[Row]:
    _, _, body, first, second, tag = world.narrowed.split(".")
    yield Row("payload ends later", f"rq1.kid-a.{body + first[:4]}.{first[4:]}.{second}.{tag}")
    yield Row("caveat starts earlier", f"rq1.kid-a.{body}.{first[:-4]}.{first[-4:] + second}.{tag}")
    yield Row("lengths left out", world.swap(3, b64(mac(world.key(), f"redisq.token.v1kid-a{body}".encode()))))


@case(22)
def foreign_payload(world: World) -> Iterator[Row]:
    yield Row("of another token", world.swap(2, world.other[2]))
    greedy = world.forge(world.claims(ops=sorted(OPS), q=["*"]), kid="kid-b", key=world.key(world.bob.key)).split(".")
    yield Row("of another's, who may more", world.swap(2, greedy[2]))


# --- What is refused when a token is made (23, 24): no such token can be sent ---


@case(23)
def weak_secrets(world: World) -> Iterator[Row]:
    for secret in WEAK_SECRETS:
        with pytest.raises(InvalidCredentials):
            Credentials.parse("alice", secret)
    for key in WEAK_KEYS:
        with pytest.raises(InvalidCredentials):
            Credentials("alice", "kid-a", key)
        raw = world.forge(world.claims(), key=world.key(key))
        yield Row("signed with it nevertheless", raw)


@case(24)
def bad_lifetimes(world: World) -> Iterator[Row]:
    for ttl in (0, -1, 30 * 86_400.5, float("nan"), float("inf"), True, "900", None, timedelta(1)):
        with pytest.raises(ValueError, match="ttl"):
            world.sign(ttl=ttl)
    with pytest.raises(ValueError, match="now"):
        world.sign(now=datetime(2030, 1, 1))
    for ttl in (0, -1, 31 * 86_400):
        with pytest.raises(InvalidSettings, match="REDISQ_TOKEN_TTL"):
            Settings(token_ttl=ttl)
    yield Row("more than the cap, forged", world.forge(world.claims(exp=world.now + 30 * 86_400 + 1)))
    yield Row("none, forged", world.forge(world.claims(exp=world.now)))


# --- What a genuine token says ---


@case(25)
def missing_claims(world: World) -> Iterator[Row]:
    for name in world.claims():
        yield Row(name, world.forge(world.claims(**{name: ...})))


@case(26)
def wrong_types(world: World) -> Iterator[Row]:
    for name in ("iat", "nbf", "exp"):
        for text in ('"180"', "180.0", "true", "[1]", "{}", "null", "1e400", "NaN", "Infinity", "-Infinity"):
            yield Row(f"{name} {text}", world.forge(world.raw_claim(name, text)))


@case(27)
def no_times(world: World) -> Iterator[Row]:
    for name in ("iat", "nbf", "exp"):
        for text in ('"9_999"', '"\u0669\u0669"', "-1", str(2**63), "9" * 1000):
            yield Row(f"{name} {text[:20]!a}", world.forge(world.raw_claim(name, text)))
    digits = world.forge(world.raw_claim("exp", "9" * 5000))
    yield Row("5,000 digits, which are too large first", digits)


@case(28)
def over(world: World) -> Iterator[Row]:
    before = world.now - 900
    yield Row("exp", world.forge(world.claims(iat=before, nbf=before, exp=world.now - 32)), EXPIRED)
    yield Row("exp in a caveat", world.forge(world.claims(), {"exp": world.now - 32}), EXPIRED)


@case(29)
def not_yet(world: World) -> Iterator[Row]:
    later = int(time.time()) + 300
    yield Row("nbf", world.forge(world.claims(nbf=later)))
    yield Row("nbf in a caveat", world.forge(world.claims(), {"nbf": later}))


@case(30)
def from_the_future(world: World) -> Iterator[Row]:
    later = int(time.time()) + 300
    yield Row("iat", world.forge(world.claims(iat=later, exp=later + 900)))


@case(31)
def no_life(world: World) -> Iterator[Row]:
    now = world.now
    yield Row("exp = nbf", world.forge(world.claims(exp=now)))
    yield Row("exp < nbf", world.forge(world.claims(exp=now - 1)))
    yield Row("above the cap", world.forge(world.claims(exp=now + 30 * 86_400 + 1)))


@case(32)
def unknown_claims(world: World) -> Iterator[Row]:
    yield Row("unknown", world.forge(world.claims(sub="root")))
    yield Row("gen, which there is not", world.forge(world.claims(gen=1)))
    yield Row("twice", world.forge(dumps(world.claims())[:-1] + b',"exp":9999999999}'))
    yield Row("twice in a caveat", world.forge(world.claims(), b'{"exp":1,"exp":9999999999}'))


@case(33)
def no_objects(world: World) -> Iterator[Row]:
    for text in ("[]", '"x"', "7", "null", "true", "{", "{} {}", "{'a':1}", " "):
        yield Row(text, world.forge(text.encode()))
        yield Row(f"{text} as caveat", world.forge(world.claims(), text.encode()))


@case(34)
def nested(world: World) -> Iterator[Row]:
    yield Row("five levels", world.forge(world.claims(more=[[[[1]]]])))
    yield Row("all that fits", world.forge(b"[" * 1400))
    yield Row("all that fits in a caveat", world.forge(world.claims(), b'{"a":' * 200))
    yield Row("100,000, which are too large first", world.forge(b"[" * 100_000), (431, "head_too_large"))


@case(35)
def other_encodings(world: World) -> Iterator[Row]:
    text = dumps(world.claims()).decode()
    for name, raw in {
        "UTF-16": text.encode("utf-16"),
        "UTF-16-LE": text.encode("utf-16-le"),
        "UTF-8 BOM": text.encode("utf-8-sig"),
        "not UTF-8": text.replace("jti0", "jti\udcff").encode("utf-8", "surrogateescape"),
    }.items():
        yield Row(name, world.forge(raw))


@case(36)
def audiences(world: World) -> Iterator[Row]:
    own = world.audience
    for audience in ("redisq:other", own[:-1], own + "2", [own], "", own.upper(), own.title(), None, {own: 1}):
        yield Row(str(audience), world.forge(world.claims(aud=audience)))


@case(37)
def applications(world: World) -> Iterator[Row]:
    for app in ("bob", "", "Alice", ["alice"], None):
        yield Row(str(app), world.forge(world.claims(app=app)))


def issued_to(gateway: LiveGateway, app: Credentials) -> str:
    """Let `/_token` issue a token."""
    form = {"grant_type": "client_credentials", "client_id": app.app, "client_secret": app.secret()}
    return str(httpx.post(f"{gateway.url}/_token", data=form).json()["access_token"])


@case(38)
def all_revoked(world: World) -> Iterator[Row]:
    """There is no `gen`: it is the application's `not_before` that kills what was issued earlier."""
    gateway = world.gateway
    dave = gateway.enrol("dave", "kid-d", MASTER, "get:*")
    old = world.sign(dave)
    yield Row("before", old, GOOD)
    gateway.change(directory.revoke_all(gateway.settings, "dave"))
    yield Row("all revoked", old)
    yield Row("narrowed", tokens.narrow(old, ops=["get"]))
    yield Row("by a clock that is ahead", world.sign(dave, now=time.time() + 20))
    until(lambda: world.get(issued_to(gateway, dave)).status == 200)
    yield Row("still", old)


@case(39)
def one_revoked(world: World) -> Iterator[Row]:
    gateway = world.gateway
    erin = gateway.enrol("erin", "kid-e", MASTER, "get:*")
    old = world.sign(erin)
    yield Row("before", old, GOOD)
    gateway.change(directory.revoke(gateway.settings, "erin", old))
    yield Row("revoked", old)
    yield Row("narrowed from it", tokens.narrow(old, queues=["orders"]))
    yield Row("another", world.sign(erin), GOOD)
    registry = gateway.registry
    clock = registry._clock
    registry._clock = lambda: registry._seen_at + 31  # whatever it sees, that was long ago
    try:
        yield Row("not seen for too long", world.token, (503, "unavailable"))
        yield Row("nor is anybody else told from anybody", "x", (503, "unavailable"))
    finally:
        registry._clock = clock
    yield Row("seen again", world.token, GOOD)


@case(40)
def bad_scopes(world: World) -> Iterator[Row]:
    for ops in (["ack"], "get", [], ["get", "GET"], ["get", 1], [["get"]], {"get": 1}, None, ["get "]):
        yield Row(f"ops {ops}", world.forge(world.claims(ops=ops)))
        yield Row(f"ops {ops} in a caveat", world.forge(world.claims(), {"ops": ops}))
    for queues in ("mail", [], [""], ["a*b"], ["**"], ["*a"], ["a/b"], ["q" * 129], [1], ["é"], [".a"], ["a\n"], None):
        yield Row(f"q {str(queues)[:20]!a}", world.forge(world.claims(q=queues)))
        yield Row(f"q {str(queues)[:20]!a} in a caveat", world.forge(world.claims(), {"q": queues}))


@case(41)
def operations(world: World) -> Iterator[Row]:
    for ops in (["queue"], sorted(OPS - {"get"})):
        yield Row(f"{ops}", world.forge(world.claims(ops=ops)), FORBIDDEN)
    yield Row("stats", world.token, FORBIDDEN, path="/orders")


@case(42)
def queues(world: World) -> Iterator[Row]:
    only = world.forge(world.claims(q=["mail"]))
    yield Row("mail", only, GOOD, path=world.paths["mail"])
    yield Row("mail is not mailbox", only, FORBIDDEN, path=world.paths["mailbox"])
    prefix = world.forge(world.claims(q=["mail*"]))
    yield Row("mail* is mailbox", prefix, GOOD, path=world.paths["mailbox"])
    yield Row("mail* is not Mail", prefix, FORBIDDEN, path=world.paths["Mail"])
    id = world.paths["orders"].rpartition("/")[2]
    for path in ("..", ".", "mail/..%2forders", "ma*il", "mail*", "*", "%6dail", "mail%00", ".mail"):
        yield Row(path, world.token, (404, "not_found"), path=f"/{path}/{id}")
    yield Row("an id of another queue", only, (404, "message_not_found"), path=f"/mail/{id}")


@case(43)
def tampered_caveats(world: World) -> Iterator[Row]:
    parts = world.narrowed.split(".")
    head, first, second, tag = ".".join(parts[:3]), *parts[3:]
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
        yield Row(name, ".".join([head, *middle, tag]))


@case(44)
def widening(world: World) -> Iterator[Row]:
    now = int(time.time())
    old = world.claims(iat=now - 999, nbf=now - 999, exp=now - 32)
    yield Row("later exp", world.forge(old, {"exp": now + 900}), EXPIRED)
    yield Row("later exp after an earlier", world.forge(world.claims(), {"exp": now - 32}, {"exp": now + 900}), EXPIRED)
    yield Row("earlier nbf", world.forge(world.claims(nbf=now + 300), {"nbf": 0}))
    yield Row("more ops", world.forge(world.claims(ops=["queue"]), {"ops": ["get", "queue"]}), FORBIDDEN)
    yield Row("more queues", world.forge(world.claims(q=["mail"]), {"q": ["*"]}), FORBIDDEN)
    yield Row("more pairs", world.forge(world.claims(ops=["queue"]), {"scope": ["get:orders"]}), FORBIDDEN)
    yield Row("more addresses", world.forge(world.claims(), {"ip": ["192.0.2.1"]}, {"ip": ["0.0.0.0/0"]}), FORBIDDEN)


@case(45)
def bad_caveats(world: World) -> Iterator[Row]:
    later = world.now + 9
    for caveat in ({"path": "/"}, {}, {"exp": later, "ops": ["get"]}, {"exp": "1"}, {"nbf": True}, {"exp": -1}):
        yield Row(str(caveat), world.forge(world.claims(), caveat))
    yield Row("NaN", world.forge(world.claims(), b'{"exp":NaN}'))
    for addresses in ("127.0.0.1", [], [""], ["localhost"], ["127.0.0.1/33"], ["127.0.0.1/8"], [1], None):
        yield Row(f"ip {addresses}", world.forge(world.claims(), {"ip": addresses}))
    for scope in ("get:orders", [], ["get"], ["get:"], [":orders"], ["get:or*ders"], [["get", "orders"]]):
        yield Row(f"scope {scope}", world.forge(world.claims(), {"scope": scope}))


@case(46)
def addresses(world: World) -> Iterator[Row]:
    """The proxy on loopback is trusted, so it can say who else it was."""
    for bound, seen, expected in (
        (["127.0.0.1"], None, GOOD),
        (["127.0.0.0/8"], None, GOOD),
        (["192.0.2.1"], None, FORBIDDEN),
        (["192.0.2.1"], b"192.0.2.1", GOOD),
        (["192.0.2.1"], b"::ffff:192.0.2.1", GOOD),
        (["192.0.2.1"], b"::ffff:c000:201", GOOD),
        (["::ffff:192.0.2.1"], b"192.0.2.1", GOOD),
        (["192.0.2.1"], b"192.0.2.2", FORBIDDEN),
        (["192.0.2.1"], b"::ffff:192.0.2.2", FORBIDDEN),
        (["192.0.2.1"], b"192.0.2.1, 192.0.2.2", FORBIDDEN),
        (["192.0.2.1"], b"::192.0.2.1", FORBIDDEN),
        (["2001:db8::/32"], b"2001:db8::7", GOOD),
        (["2001:db8::/32"], b"2001:db9::7", FORBIDDEN),
        (["127.0.0.1"], b"unknown", GOOD),
    ):
        headers = () if seen is None else (b"X-Forwarded-For: " + seen,)
        token = tokens.narrow(world.token, addresses=bound)
        yield Row(f"{bound} {seen!r}", token, expected, headers)
    apart = tokens.narrow(tokens.narrow(world.token, addresses=["127.0.0.1"]), addresses=["192.0.2.1"])
    yield Row("bound to two that have none in common", apart, FORBIDDEN)


@case(47)
def headers(world: World) -> Iterator[Row]:
    own = bearer(world.token)[0]
    yield Row("two headers", world.token, REFUSED, (own,))
    yield Row("two headers, the second another", world.token, REFUSED, (b"Authorization: Basic eDp4",))
    yield Row("two headers in other letters", world.token, REFUSED, (own.replace(b"Auth", b"aUTH"),))
    for value in (world.token, f"Basic {world.token}", f"Bearer:{world.token}", f"Bearer{world.token}", "Bearer"):
        yield Row(value[:9], None, REFUSED, (f"Authorization: {value}".encode(),))
    yield Row("two tokens", f"{world.token}, {world.token}")
    yield Row("of a proxy", None, REFUSED, (own.replace(b"Authorization", b"Proxy-Authorization"),))
    yield Row("a cookie", None, REFUSED, (f"Cookie: token={world.token}; redisq={world.token}".encode(),))
    for name in ("access_token", "token", "authorization"):
        query = f"{world.paths['orders']}?{name}={world.token}"
        yield Row(f"?{name}=", None, path=query)
        yield Row(f"?{name}= beside a good header", world.token, (400, "bad_request"), path=query)
    yield Row("the scheme in small letters", None, GOOD, (own.replace(b"Bearer", b"bearer"),))


@case(48)
def over_at_the_end_of_a_wait(world: World) -> Iterator[Row]:
    """The wait begins with a second left, the leeway included; the test at the end says what it must not hand out."""
    token = world.sign(now=time.time() - 30, ttl=2)
    yield Row("a long wait", token, EXPIRED, path=world.paths["orders"] + "?wait=4")
    yield Row("and from now on", token, EXPIRED)


def _flipped(raw: bytes, bit: int) -> bytes:
    return raw[: bit // 8] + bytes([raw[bit // 8] ^ (1 << bit % 8)]) + raw[bit // 8 + 1 :]


# --- The tests ---


@pytest.fixture(scope="module", params=REAL_SERVERS or NONE, ids=lambda name: name.rpartition("/")[2])
def world(request: pytest.FixtureRequest, running: Any) -> Iterator[World]:
    """One gateway on each real server, for all cases."""
    namespace = f"cases{time.time_ns()}"
    settings = settings_for(started(running, request.param).url, namespace)
    settings = settings.model_copy(update={"master_key": SecretStr(MASTER.text())})
    gateway = LiveGateway(settings, trusted_proxies="127.0.0.1")
    yield World(gateway)
    gateway.close()


def test_every_case_occurs() -> None:
    assert sorted(CASES) == list(range(1, 49))


@pytest.mark.full(keep=24)
@pytest.mark.parametrize("number", sorted(CASES))
def test_case(world: World, number: int) -> None:
    like = {REFUSED: world.get(None).shape(), EXPIRED: None}
    sent = 0
    for row in CASES[number](world):
        answer = world.get(row.token, *row.headers, path=row.path)
        assert (answer.status, answer.code if answer.status >= 400 else "") == row.expected, row.name
        if answer.status == 401:
            like[row.expected] = like[row.expected] or answer.shape()
            assert answer.shape() == like[row.expected], row.name
        if answer.status >= 400:
            assert b"secret" not in answer.body, row.name
            assert world.token not in str(answer)
        sent += 1
    assert sent > 0


@pytest.mark.full(keep=1)
def test_23_24_the_command_line_makes_no_such_token(world: World, tmp_path: Path) -> None:
    shell = Shell(world.gateway.settings.url, world.gateway.settings.namespace, tmp_path)
    assert shell.text("token", "create").startswith("rq1.")
    weak = [secret for secret in WEAK_SECRETS if isinstance(secret, str) and "\ud800" not in secret]
    rows: list[tuple[tuple[str, ...], dict[str, str]]] = [((), {"REDISQ_APP_SECRET": secret}) for secret in weak]
    rows += [(("--ttl", ttl), {}) for ttl in ("0", "-1", "-0.5", "31d", "721h", "nan", "inf", "x")]
    for arguments, environment in rows:
        done = shell.run("token", "create", *arguments, **environment)
        assert done.returncode in (1, 2), (arguments, environment)
        assert "rq1." not in done.stdout + done.stderr
        assert all(secret not in done.stderr for secret in environment.values() if len(secret) > 20)


def test_the_world_is_one_in_which_a_good_token_gets_in(world: World) -> None:
    for token in (world.token, world.narrowed, world.sign()):
        assert world.get(token).json()["request"] == {"secret": "orders"}


def test_expiry_alone_looks_different(world: World) -> None:
    gone = world.forge(world.claims(iat=1, nbf=1, exp=2))
    expired, refused = world.get(gone).shape(), world.get("x").shape()
    assert (expired[0], expired[2].keys()) == (refused[0], refused[2].keys())
    assert expired[2]["www-authenticate"] == refused[2]["www-authenticate"]
    assert (expired[1]["error"]["code"], refused[1]["error"]["code"]) == ("token_expired", "invalid_token")


@pytest.mark.full(keep=1)
def test_48_a_message_that_ends_after_the_token_is_not_handed_out(world: World) -> None:
    """Nor is one that comes to a long claim: it goes back, uncharged."""
    gateway, mq = world.gateway, world.gateway.office
    id = gateway.queue("late", {"secret": 1})
    (held,) = gateway.post("/late/_claim", world.sign(), {}).json()["deliveries"]
    token = world.sign(now=time.time() - 30, ttl=5)
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(gateway.ask, "GET", f"/late/{id}?wait=30", token)]
        waits += [pool.submit(gateway.ask, "POST", "/later/_claim", token, {"wait": 30})]
        until(lambda: len(gateway.context.waits._waiting) == 2)
        until(lambda: world.get(token).status == 401)
        assert gateway.post(f"/late/{id}/_complete", world.sign(), {"receipt": held["receipt"]}).status == 204
        other = gateway.queue("later", {"secret": 2})
        for wait in waits:
            answer = wait.result()
            assert (answer.status, answer.code) == EXPIRED
            assert b"secret" not in answer.body
    until(lambda: mq.get_message("later", other).status == Status.PENDING)
    assert [step.event for step in mq.get_message("later", other).history] == ["released"]
