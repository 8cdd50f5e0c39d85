"""Applications: who may do what, in records that nobody can write without a master key.

An application's secrets are derived from a master key, so Redis stores none. Its record, as it stands in Redis:

    rqa1.<kid of a master key>.<payload>.<tag>        base64url without padding

The tag is an HMAC-SHA256 over namespace, application and payload, so a record cannot be changed, nor moved to another
name, by whoever can write to Redis. What does not verify counts as no record. That an old one is not put back and
changed as if it were the latest is told by its lineage. Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redisq import tokens
from redisq.errors import InvalidApplication, InvalidCredentials, InvalidToken
from redisq.tokens import encoding, lineage
from redisq.tokens.lineage import Past
from redisq.tokens.master_keys import MasterKey as MasterKey
from redisq.tokens.master_keys import MasterKeys as MasterKeys
from redisq.tokens.scopes import EVERYTHING, Scopes, is_pair
from redisq.tokens.token import APP, JTI, LEEWAY, MAX_TTL, Credentials, Grant

MOST_KEYS = 2  # live ones of an application
MOST_DENIED = 1_000  # tokens of an application that are revoked one by one
MOST_SCOPES = 256
MAX_RECORD_BYTES = 256 * 1024

_VERSION = "rqa1"
_REMEMBERED = 2_000  # good tokens; a request's check costs 3 us then in place of 30


@dataclass(frozen=True, slots=True)
class AppKey:
    """One key of an application: its id, the master key that made it, and when; times in whole seconds."""

    kid: str
    master: str
    created_at: int
    not_after: int | None = None

    def is_live(self, now: float) -> bool:
        """Return whether it has not been retired."""
        return self.not_after is None or now <= self.not_after


@dataclass(frozen=True, slots=True)
class Application:
    """Who may do what. Each change gives a new one, of a higher `version`; times are whole seconds since 1970.

    `allowance` is all that its tokens can ever allow. Those issued before `not_before` are revoked, and those in
    `denied`, token id -> when it has expired at the latest. `before` are the records whose place it took, the last one
    first; None when a redisq wrote it that names none. `digest` stands for the record that it was read from.
    """

    name: str
    version: int
    created_at: int
    allowance: Scopes
    keys: tuple[AppKey, ...]
    not_before: int = 0
    disabled: bool = False
    denied: Mapping[str, int] = field(default_factory=dict)
    changed_at: int = 0
    before: tuple[Past, ...] | None = ()
    digest: str = field(default="", compare=False, repr=False)

    @classmethod
    def new(cls, name: str, allowance: Scopes, masters: MasterKeys, now: float) -> Application:
        """Make one with its first key. Its version is above that of any it takes the place of.

        Raises:
            InvalidApplication: the name or the allowance is not valid.
        """
        if not (isinstance(name, str) and APP.fullmatch(name)):
            raise InvalidApplication("An application's name is 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first.")
        key = AppKey(secrets.token_hex(8), masters.newest.kid, int(now))
        return cls(name, int(now), int(now), _checked_allowance(allowance), (key,), changed_at=int(now))

    def rotated(self, masters: MasterKeys, overlap: float, now: float, kid: str) -> Application:
        """Return it a new key, under a new key id; the old ones go on for `overlap` seconds.

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
        """Return it another allowance, which counts for the tokens it has made, too."""
        return self._changed(now, allowance=_checked_allowance(allowance))

    def switched(self, *, disabled: bool, now: float) -> Application:
        """Disable it, or enable it again."""
        return self._changed(now, disabled=disabled)

    def revoked_all(self, now: float) -> Application:
        """Revoke all tokens issued before now, also by a clock that is ahead by as much as two clocks may disagree.

        No clock tells those from what is issued in that time after now, so that is revoked, too; but for what gateways
        issue, see `issued_at`.
        """
        return self._changed(now, not_before=max(self.not_before, int(now + LEEWAY) + 1))

    def issued_at(self, now: float) -> float:
        """Return the time to issue a token at, so that it counts: later than now while `not_before` is ahead."""
        return max(now, self.not_before)

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
        """Return it with changes, without what is past. The clock lifts its version: above any a failover has lost."""
        keys = tuple(key for key in self.keys if key.is_live(now))
        changes = {"keys": keys, "denied": self._still_denied(now), **changes}
        before = lineage.after(self.past, self.before or ()) if self.digest else self.before
        changes |= {"changed_at": max(int(now), self.latest), "before": before, "digest": ""}
        return replace(self, version=max(self.version + 1, int(now)), **changes)

    def instead_of(self, other: Application) -> Application:
        """Return one that was made anew the place of another, whose secrets and tokens end.

        It is the later one by its times, too, whatever clocks the two were made by.
        """
        version, created_at = max(self.version, other.version + 1), max(self.created_at, other.latest + 1)
        return replace(self, version=version, created_at=created_at, changed_at=max(self.changed_at, created_at))

    @property
    def latest(self) -> int:
        """The latest time that it names of itself: no record that it came of names a later one."""
        return max(self.created_at, self.changed_at)

    @property
    def past(self) -> Past:
        """What a later record names it by."""
        return Past(self.version, self.digest)

    def _still_denied(self, now: float) -> dict[str, int]:
        return {jti: end for jti, end in self.denied.items() if end + LEEWAY >= now}

    def credentials(self, key: AppKey, masters: MasterKeys) -> Credentials | None:
        """Derive the credentials of one of its keys; None when the master key that made it is not in force."""
        master = masters.find(key.master)
        return None if master is None else master.credentials(self.name, key.kid)

    def to_record(self, namespace: str, masters: MasterKeys) -> str:
        """Write it, with a tag of the newest master key."""
        payload = encoding.seal(
            {
                "version": self.version,
                "created_at": self.created_at,
                "allowance": self.allowance.texts(),
                "keys": [[key.kid, key.master, key.created_at, key.not_after] for key in self.keys],
                "not_before": self.not_before,
                "disabled": self.disabled,
                "denied": dict(self.denied),
                **({} if self.before is None else {"changed_at": self.changed_at, "before": self.before}),
            }
        )
        tag = masters.newest.tag(namespace, self.name, payload)
        return ".".join([_VERSION, masters.newest.kid, payload, encoding.encode(tag)])

    @classmethod
    def from_record(cls, namespace: str, name: str, record: bytes, masters: MasterKeys) -> Application | None:
        """Read a record; None for one that does not verify, or that a newer redisq wrote in another way."""
        try:
            version, kid, payload, tag = record.decode("ascii").split(".")
            master = masters.find(kid)
            if master is None or version != _VERSION or len(record) > MAX_RECORD_BYTES:
                return None
            if not hmac.compare_digest(encoding.decode(tag), master.tag(namespace, name, payload)):
                return None
            return _application(name, encoding.parse(encoding.decode(payload)), lineage.digest_of(payload))
        except (ValueError, TypeError, KeyError, AttributeError, InvalidToken):
            return None


def _checked_allowance(allowance: Scopes) -> Scopes:
    if not 1 <= len(allowance.pairs) <= MOST_SCOPES:
        raise InvalidApplication(f"An allowance has 1 to {MOST_SCOPES} scopes: name fewer queues, or use a prefix.")
    return allowance


def _application(name: str, payload: dict[str, Any], digest: str) -> Application:
    """Read a payload that has verified.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: a newer redisq wrote it in another way.
    """
    names = {"version", "created_at", "allowance", "keys", "not_before", "disabled", "denied"}
    keys, denied, scopes = payload["keys"], payload["denied"], payload["allowance"]
    before, changed_at = None, payload["version"]  # as the clock lifts it; an older redisq told no more
    if payload.keys() > names:
        names |= {"changed_at", "before"}
        before, changed_at = lineage.read(payload["before"]), payload["changed_at"]
    live = [AppKey(*key) for key in keys]
    times = [payload["version"], payload["created_at"], payload["not_before"], changed_at, *denied.values()]
    times += [time for key in live for time in (key.created_at, key.not_after or 0)]
    texts = [text for key in live for text in (key.kid, key.master)]
    if not (
        payload.keys() == names
        and all(map(is_pair, scopes))
        and all(type(time) is int for time in times)
        and all(isinstance(text, str) and encoding.KID.fullmatch(text) for text in texts)
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
        changed_at,
        before,
        digest,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record that has verified, and what came of it."""

    record: bytes
    app: Application
    credentials: tuple[tuple[AppKey, Credentials], ...]


class Registry:
    """All applications of a namespace as they were at one moment. It never changes; the next one takes its place.

    `before` is the one that it takes the place of. A record older than one that was seen there is a replay, which
    somebody put back to undo a revocation; a later one that does not go back to what was seen was made of a replay;
    and of one that names none as old as what was seen, nobody can tell. None of them counts.
    """

    def __init__(
        self, namespace: str, masters: MasterKeys, records: Mapping[str, bytes], before: Registry | None = None
    ) -> None:
        self._seen: dict[str, Application] = {} if before is None else dict(before._seen)
        self._entries: dict[str, _Entry] = {}
        unverified: list[str] = []
        refused: dict[str, list[str]] = {"replayed": [], "strayed": [], "overtaken": []}
        for name, record in records.items():
            known = None if before is None else before._entries.get(name)
            entry = known if known and known.record == record else _read(namespace, name, record, masters)
            if entry is None:
                unverified.append(name)
            elif why_not := _why_not(self._seen.get(name, entry.app), entry.app):
                refused[why_not].append(name)
            else:
                self._entries[name], self._seen[name] = entry, entry.app
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
        self.replayed: Sequence[str] = sorted(refused["replayed"])
        #: names of records that were not made of what was seen, nor anew
        self.strayed: Sequence[str] = sorted(refused["strayed"])
        #: names of records that name none as old as what was seen, so that nobody can tell what they were made of
        self.overtaken: Sequence[str] = sorted(refused["overtaken"])

    @property
    def is_foreign(self) -> bool:
        """Whether there are records, and none verifies: they are of other master keys than those in force."""
        return bool(self.unverified) and not self.applications

    def verify(self, token: str, now: float, audience: str) -> Grant:
        """Return what a token allows, capped by the allowance of its application.

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
        kid = encoding.split(token).kid
        owner = self._owners.get(kid)
        known = {} if owner is None or not owner[1].is_live(now) else {kid: owner[2]}
        grant = tokens.verify(token, known, audience=audience, now=now)
        app = self.applications[grant.app]
        if app.disabled or grant.issued_at < app.not_before or grant.jti in app.denied:
            encoding.refuse("revoked")
        if not app.allowance.covers(EVERYTHING):
            grant = replace(grant, scopes=(*grant.scopes, app.allowance))
        return grant, self._owners[kid][1]

    def authenticate(self, app_id: str, secret: str, now: float) -> Application:
        """Return the application that a secret belongs to. Whatever is wrong takes as long, and is told alike.

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


def _why_not(seen: Application, app: Application) -> str:
    """Return why an application does not count after what was seen; nothing if it is that, was made of it, or anew."""
    if _is_anew(seen, app):
        return ""
    if app.version <= seen.version:
        return "replayed" if app.version < seen.version else "strayed" if app.digest != seen.digest else ""
    if app.before is None:  # a redisq that names no records of before is believed after its like alone
        return "" if seen.before is None else "strayed"
    if seen.past in app.before:
        return ""
    are_all_later = bool(app.before) and app.before[-1].version > seen.version  # they do not tell what came of that one
    return "overtaken" if are_all_later else "strayed"


def _is_anew(seen: Application, app: Application) -> bool:
    """Return whether an application was made anew after what was seen, or was changed since it was.

    Versions run ahead of the clock where many changes fall into one second, so they alone do not tell. No record that
    came before the one seen is as late as the latest time that one names; a redisq before this one may have made the
    next in the same second.
    """
    if app.before is None:
        return False
    in_time = app.created_at == seen.latest and app.version > seen.version and not app.before
    return app.created_at > seen.latest or in_time


def _read(namespace: str, name: str, record: bytes, masters: MasterKeys) -> _Entry | None:
    app = Application.from_record(namespace, name, record, masters)
    if app is None:
        return None
    derived = [(key, app.credentials(key, masters)) for key in app.keys]
    return _Entry(record, app, tuple((key, made) for key, made in derived if made is not None))
