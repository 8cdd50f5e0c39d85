"""Who calls an operation, what they may do, and what is known of queues. Pure."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from redisq import store, tokens
from redisq.body import schemas
from redisq.errors import Forbidden, InvalidCredentials, InvalidDefinition, InvalidToken, MissingCredentials
from redisq.operations.flow import Aside, Flow
from redisq.settings import Settings
from redisq.store import keys
from redisq.store.call import Limits, milliseconds
from redisq.store.keys import PartitionKeys
from redisq.store.portions import Portion

_REGISTER_AGAIN = 10.0  # seconds; a registry that was lost comes back, for one more call in this time
_READ_SCHEMA_AGAIN = 5.0  # seconds; a changed schema is in force everywhere after this time
_MANY_QUEUES = 10_000  # names from strangers must not grow a process without end
_RENEW_TOKEN = 60.0  # seconds before its expiry


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a queue's schema, and until when."""

    text: str | None
    schema: schemas.Schema | None
    until: float


class Caller:
    """Who calls: in whose name, what it may do, and what it knows of queues. Every operation takes one first."""

    def __init__(self, settings: Settings, credentials: tokens.Credentials | None = None) -> None:
        if credentials is not None and not isinstance(credentials, tokens.Credentials):
            raise InvalidCredentials(
                "credentials= takes redisq.Credentials: Credentials.parse(app_id, secret) reads them"
            )
        self.settings = settings
        self.credentials = credentials or settings.credentials()
        self._application: str | None = None  # in whose name it acts, if that was settled elsewhere
        self.limits = limits_of(settings)
        self._user = _user_of(settings.url)
        self._own: tokens.Grant | None = None
        self._allowed: set[tuple[str, str]] = set()  # what the own grant was found to allow
        self._partitions: dict[str, PartitionKeys] = {}
        self._registered: dict[str, float] = {}
        self.waits: Counter[str] = Counter()  # how many wait for a message of a queue
        self._known: dict[str, _Known] = {}
        self._portions: dict[str, Portion] = {}

    @property
    def application(self) -> str:
        """Who this process is, or acts for; "" when it has no credentials."""
        if self._application is not None:
            return self._application
        return "" if self.credentials is None else self.credentials.app

    def acting_for(self, application: str) -> Caller:
        """Return a caller in the name of an application whose grant was checked elsewhere: it checks no token."""
        other = copy.copy(self)  # it shares what is known of queues
        other.settings = self.settings.model_copy(update={"auth": "none"})
        other._application = application
        return other

    def within(self, seconds: float) -> Caller:
        """Return the same caller whose calls are retried for so many seconds; raises as `Settings.within` does."""
        other = copy.copy(self)
        other.settings = self.settings.within(seconds)
        return other

    def portion(self, script: str, most: int) -> Portion:
        """Return how many messages a reply of a script that reads several may hold, at `most` unless it was learned."""
        return self._portions.setdefault(script, Portion(most))

    # --- Checks ---

    def keys_of(self, queue: str) -> PartitionKeys:
        """Return the keys of a queue's only partition, its name checked."""
        found = self._partitions.get(queue) if isinstance(queue, str) else None
        if found is None:
            name = keys.check_queue_name(queue)
            found = self._partitions[name] = keys.partition_keys(self.settings.namespace, name)
            if len(self._partitions) > _MANY_QUEUES:
                self._partitions.clear()
        return found

    def authorise(self, op: str, queue: str, token: str | None) -> None:
        """Check that the token, or this process' own, allows `op` on `queue`.

        Raises:
            MissingCredentials, InvalidToken, TokenExpired, Forbidden.
        """
        now = time.time()
        grant = self._grant(token, now)
        if grant is None or (token is None and (op, queue) in self._allowed):
            return
        grant.require(op, queue, now)
        if token is None and len(self._allowed) < _MANY_QUEUES:
            self._allowed.add((op, queue))

    def authorise_all(self, op: str, token: str | None) -> None:
        """Check that the token, or this process' own, allows `op` on every queue; raises as `authorise` does."""
        grant = self._grant(token, time.time())
        if grant is not None and not grant.allows_everywhere(op):
            raise Forbidden(f"The token does not allow {op} on every queue. Name one queue, or use one that does.")

    def visible(self, token: str | None) -> Callable[[str], bool]:
        """Return what tells whether a queue's name may be known to who has the token; raises as `authorise` does."""
        grant = self._grant(token, time.time())
        return lambda queue: grant is None or grant.allows("stats", queue)

    def _grant(self, token: str | None, now: float) -> tokens.Grant | None:
        """Verify the token, or make an own one unless it will do for a while; None when tokens are off."""
        if self.settings.auth == "none":
            return None
        if token is not None:
            return self.verify(token, now)
        if self._own is None or now > self._own.expires_at - _RENEW_TOKEN:
            self._own, self._allowed = self.verify(self.own_token(now), now), set()
        return self._own

    def verify(self, token: str, now: float) -> tokens.Grant:
        """Verify a token of this process' own application; direct mode knows no other application's key."""
        if self.credentials is None:
            raise InvalidToken(
                "This process has no credentials to verify a token with: set REDISQ_APP_ID and REDISQ_APP_SECRET of "
                "the token's application, or send it to the HTTP gateway.",
                reason="unknown_key",
            )
        known = {self.credentials.kid: self.credentials}
        grant = tokens.verify(token, known, audience=self.settings.token_audience, now=now)
        if grant.addresses:
            raise Forbidden(
                "The token is bound to addresses, and this process cannot see whose call it is: only the HTTP gateway "
                "can. Use a token that is bound to none."
            )
        return grant

    def own_token(self, now: float) -> str:
        """Sign a token for everything this application may do, for `token_ttl` seconds."""
        if self.credentials is None:
            raise MissingCredentials
        return tokens.sign(
            self.credentials,
            audience=self.settings.token_audience,
            ops=tokens.OPS,
            queues=["*"],
            ttl=self.settings.token_ttl,
            now=now,
        )

    def prepare(self, queue: str, smallest: int) -> Flow[schemas.Schema | None]:
        """Enter a queue in the registry as `register` does; the answer is the schema that its messages have to fit.

        Raises:
            InvalidDefinition: its schema is damaged; another program stored it.
            InvalidSettings: it has one, and what checks it is not installed.
        """
        now = time.monotonic()
        known = self._known.get(queue)
        if known is not None and now < known.until:
            return known.schema
        yield from self.register(queue, smallest)
        text: str | None = yield store.queues.schema(self.keys_of(queue))
        try:
            if text is None:
                schema = None
            elif known is not None and known.text == text:
                schema = known.schema
            else:
                schema = yield Aside(partial(schemas.load, text))
        except InvalidDefinition as error:
            raise InvalidDefinition(f"The definition of {queue} is damaged; define its schema anew. {error}") from None
        if queue in self._registered:
            if len(self._known) > _MANY_QUEUES:
                self._known.clear()
            self._known[queue] = _Known(text, schema, now + _READ_SCHEMA_AGAIN)
        return schema

    def forget(self, queue: str, *, dropped: bool = False) -> None:
        """Know a queue's schema no more, which has changed; nor that there is the queue, when it was `dropped`."""
        self._known.pop(queue, None)
        if dropped:
            self._registered.pop(queue, None)

    def register(self, queue: str, smallest: int = 0) -> Flow[None]:
        """Enter a queue in the registry, unless not even the smallest of the bodies (in bytes) will be accepted.

        A Redis user who may not touch the queue finds out before: its definition is read first.
        """
        now = time.monotonic()
        if now < self._registered.get(queue, -math.inf) + _REGISTER_AGAIN:
            return
        if self._user or smallest > self.limits.max_bytes:
            own = store.queues.read_definition((yield store.queues.define(self.keys_of(queue), self.limits, [])))
            if smallest > (own.max_bytes or self.limits.max_bytes):
                return
        yield store.queues.register(keys.queues_key(self.settings.namespace), queue, 1)
        if len(self._registered) > _MANY_QUEUES:
            self._registered.clear()
        self._registered[queue] = now


def _user_of(url: str) -> str:
    """Read the name of the Redis user that a URL holds; "" for that of everybody, or a URL that cannot be read."""
    try:
        name = urlsplit(url).username or ""
    except ValueError:
        return ""
    return "" if name == "default" else name


def limits_of(settings: Settings) -> Limits:
    """Turn the settings' defaults into what scripts take."""
    return Limits(
        lease_ms=milliseconds(settings.lease),
        retention_ms=milliseconds(settings.retention),
        window_ms=milliseconds(settings.dedup_window),
        dead_ms=milliseconds(settings.dead_retention),
        max_attempts=settings.max_attempts,
        max_lost=settings.max_lost,
        backoff_base_ms=milliseconds(settings.backoff_base),
        backoff_cap_ms=milliseconds(settings.backoff_cap),
        max_bytes=settings.max_bytes,
        max_length=settings.max_length,
    )
