"""Access tokens: an application signs them from its credentials, a holder narrows them, redisq verifies them.

    rq1.<kid>.<payload>[.<caveat>...].<tag>        base64url without padding, at most 2,048 bytes

The payload says who may do what on which queues, and until when. Each caveat takes something away. The tag is an
HMAC-SHA256 over the payload *as written* (the base64url text); each caveat is then authenticated with the tag before
it as the key. So whoever holds a token can append a caveat without any secret, and nobody can take one off.

Nothing here does I/O or reads a clock: `now` is seconds since 1970, passed in. `verify` parses nothing before the tag
has proved genuine, and no error shows any part of a token or of a secret.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redisq.errors import Forbidden, InvalidCredentials, TokenExpired
from redisq.tokens import encoding
from redisq.tokens.encoding import MAX_CAVEATS as MAX_CAVEATS
from redisq.tokens.encoding import MAX_TOKEN_BYTES as MAX_TOKEN_BYTES
from redisq.tokens.scopes import OPS as OPS
from redisq.tokens.scopes import Scopes, intersect, is_among, is_pair, is_pattern, is_queue

if TYPE_CHECKING:
    from redisq.tokens.networks import Network

LEEWAY = 30.0  # seconds two clocks may disagree
DEFAULT_TTL = 900.0  # seconds
WORKER_TTL = 86_400.0  # seconds; a worker asks rarely and runs long
MAX_TTL = 30 * 86_400.0  # seconds; a retired key must stay known until its last token has expired

APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
JTI = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_EMPTY = re.compile(r".+", re.DOTALL)
_MAX_TIME = 2**53  # seconds; up to here a float is exact
_CLAIMS = frozenset({"app", "aud", "iat", "nbf", "exp", "jti", "ops", "q"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """An application's id, and a key to sign its tokens with.

    Raises:
        InvalidCredentials: a part has a wrong form, or the key is not 32 random bytes.
    """

    app: str
    kid: str
    key: bytes = field(repr=False)
    _token_key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _fits(APP, self.app):
            raise InvalidCredentials("An application id is 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first.")
        if not _fits(encoding.KID, self.kid):
            raise InvalidCredentials("A key id is 1 to 32 of A-Z a-z 0-9 _ -.")
        if not encoding.is_key(self.key):
            raise InvalidCredentials("A key is 32 random bytes: `redisq app create NAME` makes one.")
        info = encoding.length_prefixed("redisq/token/v1", self.app, self.kid)
        object.__setattr__(self, "_token_key", encoding.hkdf(self.key, info=info))

    @classmethod
    def parse(cls, app_id: str, secret: str) -> Credentials:
        """Read an application id and its secret, `rqs1.<kid>.<43 base64url characters>`; raises as the class does."""
        read = encoding.read_secret("rqs1", secret)
        if read is None:
            raise InvalidCredentials(
                "A secret reads rqs1.<kid>.<43 base64url characters>: copy all of it, or make a new one with "
                "`redisq app create NAME`."
            )
        return cls(app_id, *read)

    @classmethod
    def generate(cls, app_id: str) -> Credentials:
        """Make new credentials: a random key under a random key id."""
        return cls(app_id, secrets.token_hex(8), secrets.token_bytes(encoding.KEY_BYTES))

    def secret(self) -> str:
        """Return the secret as text, for printing once."""
        return f"rqs1.{self.kid}.{encoding.encode(self.key)}"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified token allows, its caveats applied: `queues` are names and prefixes, times whole seconds.

    Each of `scopes` has to allow, too, what `ops` and `queues` allow. With `addresses` it is good from those alone.
    """

    app: str
    ops: frozenset[str]
    queues: tuple[str, ...]
    issued_at: int
    expires_at: int
    jti: str
    addresses: tuple[Network, ...] = ()
    scopes: tuple[Scopes, ...] = ()

    def allows(self, op: str, queue: str) -> bool:
        """Return whether `op` is allowed on `queue`. Whatever is not a queue's name is not allowed."""
        if not (op in self.ops and is_queue(queue) and is_among(queue, self.queues)):
            return False
        return not self.scopes or all(scopes.allows(op, queue) for scopes in self.scopes)

    def allows_everywhere(self, op: str) -> bool:
        """Return whether `op` is allowed on every queue there is and will be."""
        return op in self.ops and "*" in self.queues and all("*" in scopes.patterns(op) for scopes in self.scopes)

    def effective(self) -> Scopes:
        """Return all that is allowed, as pairs."""
        found = Scopes.product(self.ops, self.queues)
        for scopes in self.scopes:
            found = found.intersection(scopes)
        return found

    def require(self, op: str, queue: str, now: float) -> None:
        """Return only if `op` is allowed on `queue` at `now`.

        Raises:
            TokenExpired: the token has expired since it was verified.
            Forbidden: it does not allow this.
        """
        if now > self.expires_at + LEEWAY:  # as _check_expiry does; done for each call, where calling it takes a fifth
            raise TokenExpired
        if not self.allows(op, queue):
            raise Forbidden(f"The token does not allow {op} on queue {queue[:128]!r}. Use one that allows it.")

    def require_address(self, address: str) -> None:
        """Return only if the token is good from `address`, the IPv4 or IPv6 address of who brought it.

        Raises:
            Forbidden: it is bound to others.
        """
        if self.addresses:
            from redisq.tokens.networks import contains  # for the rare case, as it takes its time to load

            if not contains(self.addresses, address):
                raise Forbidden("The token is not good from this address. Use one that is bound to it, or to none.")


def sign(
    credentials: Credentials,
    *,
    audience: str,
    ops: Iterable[str],
    queues: Iterable[str],
    ttl: float = DEFAULT_TTL,
    now: float,
    jti: str | None = None,
) -> str:
    """Make a token that allows `ops` on `queues`, names or prefixes with a final `*`, for `ttl` seconds from `now`.

    Raises:
        ValueError: an argument is not valid, or the token would be too large.
    """
    lifetime = math.ceil(_seconds("ttl", ttl))
    if not 0 < lifetime <= MAX_TTL:
        raise ValueError(f"ttl must be more than 0 and at most {MAX_TTL:.0f} seconds")
    jti = secrets.token_urlsafe(16) if jti is None else jti
    if not (_fits(_NOT_EMPTY, audience) and _fits(JTI, jti)):
        raise ValueError("audience must be a text that is not empty, jti 1 to 64 of A-Z a-z 0-9 _ -")
    issued_at = int(_seconds("now", now))
    payload = {
        "app": credentials.app,
        "aud": audience,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + lifetime,
        "jti": jti,
        "ops": _checked("ops", ops, _is_op),
        "q": _checked("queues", queues, is_pattern),
    }
    kid, sealed = credentials.kid, [encoding.seal(payload)]
    return encoding.join(kid, sealed, encoding.mac(credentials._token_key, kid, sealed))


def narrow(
    token: str,
    *,
    ops: Iterable[str] | None = None,
    queues: Iterable[str] | None = None,
    expires_at: float | None = None,
    not_before: float | None = None,
    scope: Iterable[str] | None = None,
    addresses: Iterable[str] | None = None,
) -> str:
    """Return a token that allows only what both `token` and each argument given allow. Needs no secret.

    Each argument adds one caveat. One that would widen the token has no effect. The token itself is not verified.
    `scope` names pairs of an operation and a queue or prefix, `get:orders`; `addresses` are IPv4 and IPv6 ones, and
    networks like 10.0.0.0/8, of those who may use it: the HTTP gateway sees them, a process in direct mode cannot.

    Raises:
        InvalidToken: `token` cannot be read.
        ValueError: an argument is not valid, none was given, or the new token would be too large.
    """
    claims = {
        "ops": None if ops is None else _checked("ops", ops, _is_op),
        "q": None if queues is None else _checked("queues", queues, is_pattern),
        "exp": None if expires_at is None else math.floor(_seconds("expires_at", expires_at)),
        "nbf": None if not_before is None else math.ceil(_seconds("not_before", not_before)),
        "scope": None if scope is None else _checked("scope", scope, is_pair),
        "ip": None if addresses is None else _checked("addresses", addresses, _is_network),
    }
    caveats = [encoding.seal({claim: value}) for claim, value in claims.items() if value is not None]
    kid, sealed, tag_text = encoding.split(token)
    if not caveats or len(sealed) - 1 + len(caveats) > MAX_CAVEATS:
        raise ValueError(f"a token takes 1 to {MAX_CAVEATS} caveats")
    *_, tag = encoding.decode_all([*sealed, tag_text])
    for caveat in caveats:
        tag = encoding.chain(tag, caveat)
    return encoding.join(kid, [*sealed, *caveats], tag)


def verify(token: str, keys: Mapping[str, Credentials], *, audience: str, now: float) -> Grant:
    """Return what a token allows, once it has proved genuine, in time, and meant for `audience`.

    `keys` maps each live key id to its credentials.

    Raises:
        TokenExpired: it is genuine, and its time is over.
        InvalidToken: `reason` says which check refused it.
    """
    kid, sealed, tag_text = encoding.split(token)
    owner = keys.get(kid)
    *bodies, tag = encoding.decode_all([*sealed, tag_text])
    key = owner._token_key if owner else bytes(encoding.KEY_BYTES)  # an unknown key takes as long as a known one
    genuine = hmac.compare_digest(tag, encoding.mac(key, kid, sealed))
    if owner is None:
        encoding.refuse("unknown_key")
    if not genuine:
        encoding.refuse("bad_mac")
    payload, *caveats = map(encoding.parse, bodies)
    _check_claims(payload, app=owner.app, audience=audience, now=now)
    return _apply(caveats, payload, now)


def inspect(token: str) -> dict[str, Any]:
    """Return what a token says, **not verified**: `{"kid", "payload", "caveats"}`.

    Raises:
        InvalidToken: it cannot be read.
    """
    kid, sealed, tag_text = encoding.split(token)
    *bodies, _ = encoding.decode_all([*sealed, tag_text])
    payload, *caveats = map(encoding.parse, bodies)
    return {"kid": kid, "payload": payload, "caveats": caveats}


def _check_claims(payload: dict[str, Any], *, app: str, audience: str, now: float) -> None:
    if not payload.keys() >= _CLAIMS:
        encoding.refuse("claim_missing")
    iat, nbf, exp = times = payload["iat"], payload["nbf"], payload["exp"]
    named = _fits(JTI, payload["jti"]) and _are(_is_op, payload["ops"]) and _are(is_pattern, payload["q"])
    if not (named and all(map(_is_time, times))):
        encoding.refuse("claim_type")
    if payload.keys() != _CLAIMS:
        encoding.refuse("claim_unknown")
    if payload["aud"] != audience:  # of any type: only the same text is equal
        encoding.refuse("audience")
    if payload["app"] != app:
        encoding.refuse("app")
    if exp <= nbf or exp - iat > MAX_TTL:
        encoding.refuse("ttl")
    _check_start(max(iat, nbf), now)
    _check_expiry(exp, now)


def _apply(caveats: Sequence[dict[str, Any]], payload: dict[str, Any], now: float) -> Grant:
    """Return what is left of a payload after its caveats, each of which can only take away."""
    nbf, exp = payload["nbf"], payload["exp"]
    ops, queues = frozenset(payload["ops"]), tuple(payload["q"])
    scopes: tuple[Scopes, ...] = ()
    bound: list[list[str]] = []
    for caveat in caveats:
        match [*caveat.items()]:
            case [("nbf", value)] if _is_time(value):
                nbf = max(nbf, value)
            case [("exp", value)] if _is_time(value):
                exp = min(exp, value)
            case [("ops", value)] if _are(_is_op, value):
                ops = ops.intersection(value)
            case [("q", value)] if _are(is_pattern, value):
                queues = intersect(queues, value)
            case [("scope", value)] if _are(is_pair, value):
                scopes += (Scopes.parse(value),)
            case [("ip", value)] if _are(_is_network, value):
                bound.append(value)
            case _:
                encoding.refuse("caveat")
    _check_start(nbf, now)
    _check_expiry(exp, now)
    addresses = _addresses(bound) if bound else ()
    if bound and not addresses:
        ops = frozenset()  # no address is in all of them: the token allows nothing to anybody
    return Grant(payload["app"], ops, queues, payload["iat"], exp, payload["jti"], addresses, scopes)


def _addresses(bound: Sequence[Sequence[str]]) -> tuple[Network, ...]:
    """Return the networks that all caveats have in common."""
    from redisq.tokens.networks import intersect, network  # for the rare case, as it takes its time to load

    first, *others = [tuple(dict.fromkeys(map(network, texts))) for texts in bound]
    for other in others:
        first = intersect(first, other)
    return first


def _check_start(starts_at: int, now: float) -> None:
    if now < starts_at - LEEWAY:
        encoding.refuse("not_yet")


def _check_expiry(expires_at: int, now: float) -> None:
    if now > expires_at + LEEWAY:
        raise TokenExpired


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value < _MAX_TIME  # `type`: True is an int too


def _is_op(value: object) -> bool:
    return isinstance(value, str) and value in OPS


def _is_network(value: object) -> bool:
    from redisq.tokens.networks import is_network  # for the rare case, as it takes its time to load

    return is_network(value)


def _are(is_one: Callable[[object], bool], values: object) -> bool:
    """Return whether this is a list of such, at least one."""
    return isinstance(values, list) and values != [] and all(map(is_one, values))


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _checked(name: str, values: object, is_one: Callable[[object], bool]) -> list[str]:
    """Return the values sorted, each once; a bare text is refused: `queues="mail"` would mean m, a, i, l."""
    found = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping) else None
    if not _are(is_one, found):
        raise ValueError(f"{name} must be a list of valid {name}, at least one")
    return sorted(set(found or ()))


def _seconds(name: str, value: float) -> float:
    if type(value) not in (int, float) or not 0 <= value < _MAX_TIME:  # NaN fails the comparison
        raise ValueError(f"{name} must be a number of seconds")
    return value
