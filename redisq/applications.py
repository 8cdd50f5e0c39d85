"""Applications: master keys, the secrets derived from them, records that nobody else can write, and who may do what.

A master key reads `rqm1.<kid>.<43 base64url characters>`. REDISQ_MASTER_KEY holds one or several, separated by commas:
the newest, which comes first, makes new keys and records; all verify. An application's secrets are derived from it, so
Redis stores none. An application's record, as it stands in Redis:

    rqa1.<kid of a master key>.<payload>.<tag>        base64url without padding

The tag is an HMAC-SHA256 over namespace, application and payload, so a record cannot be changed, nor moved to another
name, by whoever can write to Redis. What does not verify counts as no record. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redisq import strict, tokens
from redisq.errors import InvalidApplication, InvalidCredentials, InvalidToken
from redisq.scopes import EVERYTHING, Scopes, is_pair
from redisq.tokens import APP, JTI, LEEWAY, MAX_TTL, Credentials, Grant

MOST_KEYS = 2  # live ones of an application
MOST_DENIED = 1_000  # tokens of an application that are revoked one by one
MOST_SCOPES = 256
MAX_RECORD_BYTES = 256 * 1024

_VERSION = "rqa1"
_REMEMBERED = 2_000  # good tokens; a request's check costs 3 us then in place of 30


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What the secrets and records of all applications are made with.

    Raises:
        InvalidCredentials: a part has a wrong form, or the key is not 32 random bytes.
    """

    kid: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.kid, str) and strict.KID.fullmatch(self.kid) and strict.is_key(self.key)):
            raise InvalidCredentials(
                "A key in REDISQ_MASTER_KEY is 32 random bytes: `redisq app master-key` makes one."
            )

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """Read `rqm1.<kid>.<43 base64url characters>`; raises as the class does."""
        try:
            version, kid, key = text.split(".")
            if version != "rqm1":
                raise ValueError
            raw = strict.decode(key)
        except (AttributeError, TypeError, ValueError):
            raise InvalidCredentials(
                "REDISQ_MASTER_KEY reads rqm1.<kid>.<43 base64url characters>, or several, separated by commas: copy "
                "all of it, or make a new one with `redisq app master-key`."
            ) from None
        return cls(kid, raw)

    @classmethod
    def generate(cls) -> MasterKey:
        """Make a new one: a random key under a random key id."""
        return cls(secrets.token_hex(8), secrets.token_bytes(strict.KEY_BYTES))

    def text(self) -> str:
        """Return it as text, for printing once."""
        return f"rqm1.{self.kid}.{strict.encode(self.key)}"

    def credentials(self, app: str, kid: str) -> Credentials:
        """Derive an application's credentials under a key id."""
        info = strict.length_prefixed("redisq/application/v1", app, kid)
        return Credentials(app, kid, strict.hkdf(self.key, info=info))

    def tag(self, namespace: str, name: str, payload: str) -> bytes:
        """Return the tag of a record, whose payload is given as written."""
        key = strict.hkdf(self.key, info=strict.length_prefixed("redisq/record/v1", namespace, name))
        return hmac.digest(key, strict.length_prefixed("redisq.record.v1", self.kid, payload), "sha256")


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """All master keys that are in force, the newest first."""

    keys: tuple[MasterKey, ...]

    @classmethod
    def parse(cls, text: str) -> MasterKeys:
        """Read them, separated by commas.

        Raises:
            InvalidCredentials: one is not valid, or two have the same key id.
        """
        found = tuple(MasterKey.parse(part.strip()) for part in text.split(","))
        if len({key.kid for key in found}) != len(found):
            raise InvalidCredentials("REDISQ_MASTER_KEY holds the same key twice: each key id counts once.")
        return cls(found)

    @property
    def newest(self) -> MasterKey:
        """The one that makes new keys and records."""
        return self.keys[0]

    def find(self, kid: str) -> MasterKey | None:
        """Give the one of a key id."""
        return next((key for key in self.keys if key.kid == kid), None)


@dataclass(frozen=True, slots=True)
class AppKey:
    """One key of an application: its id, the master key that made it, and when; times in whole seconds."""

    kid: str
    master: str
    created_at: int
    not_after: int | None = None

    def is_live(self, now: float) -> bool:
        """Tell whether it has not been retired."""
        return self.not_after is None or now <= self.not_after


@dataclass(frozen=True, slots=True)
class Application:
    """Who may do what. Each change gives a new one, of a higher `version`; times are whole seconds since 1970.

    `allowance` is all that its tokens can ever allow. Those issued before `not_before` are revoked, and those in
    `denied`, token id -> when it has expired at the latest.
    """

    name: str
    version: int
    created_at: int
    allowance: Scopes
    keys: tuple[AppKey, ...]
    not_before: int = 0
    disabled: bool = False
    denied: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def new(cls, name: str, allowance: Scopes, masters: MasterKeys, now: float) -> Application:
        """Make one with its first key. Its version is above that of any it takes the place of.

        Raises:
            InvalidApplication: the name or the allowance is not valid.
        """
        if not (isinstance(name, str) and APP.fullmatch(name)):
            raise InvalidApplication("An application's name is 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first.")
        key = AppKey(secrets.token_hex(8), masters.newest.kid, int(now))
        return cls(name, int(now), int(now), _checked_allowance(allowance), (key,))

    def rotated(self, masters: MasterKeys, overlap: float, now: float, kid: str) -> Application:
        """Give it a new key, under a new key id; the old ones go on for `overlap` seconds.

        Raises:
            InvalidApplication: two keys are live, and the older one would be cut off.
        """
        live = [key for key in self.keys if key.is_live(now)] if overlap > 0 else []
        if len(live) >= MOST_KEYS:
            raise InvalidApplication(
                f"{self.name} has {MOST_KEYS} live keys already, from a rotation before. Wait until the older one "
                "retires, or retire both at once with --overlap 0."
            )
        end = math.ceil(now + overlap)
        old = [replace(key, not_after=end if key.not_after is None else min(end, key.not_after)) for key in live]
        return self._changed(now, keys=(AppKey(kid, masters.newest.kid, int(now)), *old))

    def with_allowance(self, allowance: Scopes, now: float) -> Application:
        """Give it another allowance, which counts for the tokens it has made, too."""
        return self._changed(now, allowance=_checked_allowance(allowance))

    def switched(self, *, disabled: bool, now: float) -> Application:
        """Disable it, or enable it again."""
        return self._changed(now, disabled=disabled)

    def revoked_all(self, now: float) -> Application:
        """Revoke all tokens issued before now, to the second: those of the current one, too."""
        return self._changed(now, not_before=max(self.not_before, int(now) + 1))

    def revoked(self, jti: str, expires_at: int | None, now: float) -> Application:
        """Revoke a token, and all that were narrowed from it, by their id, until they have expired.

        Raises:
            InvalidApplication: too many are revoked so, or this is no token's id.
        """
        if not JTI.fullmatch(jti):
            raise InvalidApplication("A token's id (jti) is 1 to 64 of A-Z a-z 0-9 _ -.")
        end = int(now + MAX_TTL) if expires_at is None else expires_at
        denied = {**self._still_denied(now), jti: max(end, self.denied.get(jti, 0))}
        if len(denied) > MOST_DENIED:
            raise InvalidApplication(
                f"{self.name} has {MOST_DENIED:,} revoked tokens already. Revoke all that were issued before now: "
                f"`redisq app revoke {self.name} --all`."
            )
        return self._changed(now, denied=denied)

    def _changed(self, now: float, **changes: Any) -> Application:
        """Give it with changes, without what is past. The clock lifts its version: above any a failover has lost."""
        keys = tuple(key for key in self.keys if key.is_live(now))
        changes = {"keys": keys, "denied": self._still_denied(now), **changes}
        return replace(self, version=max(self.version + 1, int(now)), **changes)

    def _still_denied(self, now: float) -> dict[str, int]:
        return {jti: end for jti, end in self.denied.items() if end + LEEWAY >= now}

    def credentials(self, key: AppKey, masters: MasterKeys) -> Credentials | None:
        """Derive the credentials of one of its keys; None when the master key that made it is not in force."""
        master = masters.find(key.master)
        return None if master is None else master.credentials(self.name, key.kid)

    def to_record(self, namespace: str, masters: MasterKeys) -> str:
        """Write it, with a tag of the newest master key."""
        payload = strict.seal(
            {
                "version": self.version,
                "created_at": self.created_at,
                "allowance": self.allowance.texts(),
                "keys": [[key.kid, key.master, key.created_at, key.not_after] for key in self.keys],
                "not_before": self.not_before,
                "disabled": self.disabled,
                "denied": dict(self.denied),
            }
        )
        tag = masters.newest.tag(namespace, self.name, payload)
        return ".".join([_VERSION, masters.newest.kid, payload, strict.encode(tag)])

    @classmethod
    def from_record(cls, namespace: str, name: str, record: bytes, masters: MasterKeys) -> Application | None:
        """Read a record; None for one that does not verify, or that a newer redisq wrote in another way."""
        try:
            version, kid, payload, tag = record.decode("ascii").split(".")
            master = masters.find(kid)
            if master is None or version != _VERSION or len(record) > MAX_RECORD_BYTES:
                return None
            if not hmac.compare_digest(strict.decode(tag), master.tag(namespace, name, payload)):
                return None
            return _application(name, strict.parse(strict.decode(payload)))
        except (ValueError, TypeError, KeyError, AttributeError, InvalidToken):
            return None


def _checked_allowance(allowance: Scopes) -> Scopes:
    if not 1 <= len(allowance.pairs) <= MOST_SCOPES:
        raise InvalidApplication(f"An allowance has 1 to {MOST_SCOPES} scopes: name fewer queues, or use a prefix.")
    return allowance


def _application(name: str, payload: dict[str, Any]) -> Application:
    """Read a payload that has verified.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: a newer redisq wrote it in another way.
    """
    names = {"version", "created_at", "allowance", "keys", "not_before", "disabled", "denied"}
    keys, denied, scopes = payload["keys"], payload["denied"], payload["allowance"]
    live = [AppKey(*key) for key in keys]
    times = [payload["version"], payload["created_at"], payload["not_before"], *denied.values()]
    times += [time for key in live for time in (key.created_at, key.not_after or 0)]
    texts = [text for key in live for text in (key.kid, key.master)]
    if not (
        payload.keys() == names
        and all(map(is_pair, scopes))
        and all(type(time) is int for time in times)
        and all(isinstance(text, str) and strict.KID.fullmatch(text) for text in texts)
    ):
        raise ValueError
    return Application(
        name,
        payload["version"],
        payload["created_at"],
        Scopes.parse(scopes),
        tuple(live),
        payload["not_before"],
        payload["disabled"] is not False,
        denied,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record that has verified, and what came of it."""

    record: bytes
    app: Application
    credentials: tuple[tuple[AppKey, Credentials], ...]


class Registry:
    """All applications of a namespace as they were at one moment. It never changes; the next one takes its place.

    `before` is the one that it takes the place of: a record older than one that was seen there is a replay, which
    somebody put back to undo a revocation, and counts as none.
    """

    def __init__(
        self, namespace: str, masters: MasterKeys, records: Mapping[str, bytes], before: Registry | None = None
    ) -> None:
        self._seen: dict[str, int] = {} if before is None else dict(before._seen)
        self._entries: dict[str, _Entry] = {}
        unverified: list[str] = []
        replayed: list[str] = []
        for name, record in records.items():
            known = None if before is None else before._entries.get(name)
            entry = known if known and known.record == record else _read(namespace, name, record, masters)
            if entry is None:
                unverified.append(name)
            elif entry.app.version < self._seen.get(name, 0):
                replayed.append(name)
            else:
                self._entries[name] = entry
                self._seen[name] = entry.app.version
        self._owners = {
            key.kid: (entry.app, key, credentials)
            for entry in self._entries.values()
            for key, credentials in entry.credentials
        }
        #: Tokens that were good here, with their keys. Time alone can change that: a revocation makes a new registry.
        self._verified: dict[tuple[str, str], tuple[AppKey, Grant]] = {}
        self.applications: dict[str, Application] = {name: self._entries[name].app for name in sorted(self._entries)}
        #: names of records that no master key in force has made, or that were changed
        self.unverified: Sequence[str] = sorted(unverified)
        #: names of records that are older than what was seen
        self.replayed: Sequence[str] = sorted(replayed)

    @property
    def is_foreign(self) -> bool:
        """Whether there are records, and none verifies: they are of other master keys than those in force."""
        return bool(self.unverified) and not self.applications

    def verify(self, token: str, now: float, audience: str) -> Grant:
        """Give what a token allows, capped by the allowance of its application.

        Raises:
            TokenExpired, InvalidToken: as `tokens.verify`; reason `revoked`: it was, or its application is disabled.
        """
        verified = self._verified.get((audience, token))
        if verified is not None and verified[0].is_live(now) and now <= verified[1].expires_at + LEEWAY:
            return verified[1]
        grant, key = self._verify(token, now, audience)
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[audience, token] = key, grant
        return grant

    def _verify(self, token: str, now: float, audience: str) -> tuple[Grant, AppKey]:
        kid = strict.split(token).kid
        owner = self._owners.get(kid)
        known = {} if owner is None or not owner[1].is_live(now) else {kid: owner[2]}
        grant = tokens.verify(token, known, audience=audience, now=now)
        app = self.applications[grant.app]
        if app.disabled or grant.issued_at < app.not_before or grant.jti in app.denied:
            strict.refuse("revoked")
        if not app.allowance.covers(EVERYTHING):
            grant = replace(grant, scopes=(*grant.scopes, app.allowance))
        return grant, self._owners[kid][1]

    def authenticate(self, app_id: str, secret: str, now: float) -> Application:
        """Give the application that a secret belongs to. Whatever is wrong takes as long, and is told alike.

        Raises:
            InvalidCredentials: id and secret do not belong together, or it is disabled.
        """
        entry = self._entries.get(app_id)
        live = [] if entry is None else [made for key, made in entry.credentials if key.is_live(now)]
        expected = [made.secret() for made in live[:MOST_KEYS]]
        expected += [_NOBODY.secret()] * (MOST_KEYS - len(expected))
        given = secret.encode("utf-8", "surrogatepass")
        right = [hmac.compare_digest(given, text.encode()) for text in expected]
        if entry is None or not any(right) or entry.app.disabled:
            raise InvalidCredentials("The application's id or its secret is not right.")
        return entry.app


_NOBODY = Credentials.generate("nobody")  # whose secret nobody has


def _read(namespace: str, name: str, record: bytes, masters: MasterKeys) -> _Entry | None:
    app = Application.from_record(namespace, name, record, masters)
    if app is None:
        return None
    derived = [(key, app.credentials(key, masters)) for key in app.keys]
    return _Entry(record, app, tuple((key, made) for key, made in derived if made is not None))
