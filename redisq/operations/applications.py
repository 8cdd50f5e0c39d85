"""The registry of applications, as flows: read it, and change one application. Pure.

Whoever has a master key and may write to Redis may do all of this; no token is asked for. A change is written only if
the record is still the one that was read, else it is made anew from what is there then. `tell` is told what was there
before a change is written: nobody here can know whether somebody put an old record back, and its date may show it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from redisq import store, tokens
from redisq.errors import (
    ApplicationConflict,
    ApplicationNotFound,
    InvalidApplication,
    InvalidSettings,
    InvalidToken,
    QueueFull,
    TokenExpired,
    Unavailable,
)
from redisq.model.application import Records
from redisq.operations.flow import Flow
from redisq.settings import Settings
from redisq.store import keys
from redisq.tokens.applications import AppKey, Application, MasterKeys, Registry
from redisq.tokens.encoding import VERSION
from redisq.tokens.scopes import Scopes
from redisq.tokens.token import MAX_TTL, Credentials

#: Applications of one namespace at most: gateways read the whole registry.
MOST = 1_000
#: A key that is retired goes on for this long at most, in seconds.
LONGEST_OVERLAP = 365 * 86_400.0
#: what to do without a master key
NO_MASTER_KEY = (
    "REDISQ_MASTER_KEY is not set, and applications are registered with it. `redisq app master-key` prints a new one: "
    "keep it where you keep passwords, and give it to the gateway and to `redisq app`."
)

_TRIES = 10

Tell = Callable[[Application], object]
Change = Callable[[Application], Application]


def _nobody(_: Application) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An application and the credentials it was given just now, which are stored nowhere."""

    application: Application
    credentials: Credentials = field(repr=False)


def masters_of(settings: Settings) -> MasterKeys:
    """Return the master keys.

    Raises:
        InvalidSettings: there is none.
    """
    masters = settings.master_keys()
    if masters is None:
        raise InvalidSettings(NO_MASTER_KEY)
    return masters


def read(settings: Settings) -> Flow[Registry]:
    """Read and verify the records of all applications."""
    masters = masters_of(settings)
    found: Records = yield store.applications.applications(keys.apps_key(settings.namespace))
    return Registry(settings.namespace, masters, found.records)


def show(settings: Settings, name: str) -> Flow[Application]:
    """Return one application.

    Raises:
        ApplicationNotFound: there is none of this name, or its record does not verify.
    """
    registry = yield from read(settings)
    return _known(registry.applications.get(name), name, name in registry.unverified)


def create(
    settings: Settings, name: str, allowance: Scopes, *, replace: bool = False, tell: Tell = _nobody
) -> Flow[Issued]:
    """Register an application with a key of its own; with `replace` in place of whatever record is there.

    What was revoked of the one before stays so, as none of its secrets and tokens counts any more.

    Raises:
        InvalidApplication: the name or the allowance is not valid, there is one of this name, or there are too many.
        ApplicationNotFound: there is a record of this name, which does not verify.
        Unavailable: Redis is out of memory, among others; nothing was registered.
    """
    masters = masters_of(settings)
    new = Application.new(name, allowance, masters, time.time())
    try:
        made = partial(_made, new, replace=replace)
        written = yield from _write(settings, name, made, tell)
    except QueueFull:
        raise Unavailable(
            "Redis is out of memory (maxmemory): the application was not registered. Let workers drain Redis or raise "
            "the limit, and try again."
        ) from None
    return Issued(written, masters.newest.credentials(name, new.keys[0].kid))


def _made(new: Application, there: Application | None, torn: bool, *, replace: bool) -> Application:
    if there is None:
        return _known(None, new.name, torn) if torn and not replace else new
    if there.keys == new.keys:
        return there  # it is ours: the answer to the first sending got lost
    if replace:
        return new.instead_of(there)
    raise InvalidApplication(
        f"There is an application {new.name} already. `redisq app rotate {new.name}` gives it a new secret."
    )


def enrol(settings: Settings, name: str, kid: str, allowance: Scopes) -> Flow[Application]:
    """Register an application with the key of a key id that was chosen before; one that is there already stays."""
    masters, now = masters_of(settings), int(time.time())
    new = Application(name, now, now, allowance, (AppKey(kid, masters.newest.kid, now),), changed_at=now)
    return (yield from _write(settings, name, lambda there, _: there or new))


def rotate(settings: Settings, name: str, overlap: float, tell: Tell = _nobody) -> Flow[Issued]:
    """Return an application a new key; the old one goes on for `overlap` seconds, with 0 not a moment longer.

    Raises:
        InvalidApplication: `overlap` is not valid, or a rotation is under way already.
    """
    if not 0 <= overlap <= LONGEST_OVERLAP:
        raise InvalidApplication(f"An overlap is 0 to {LONGEST_OVERLAP:,.0f} seconds, a year.")
    masters, now, kid = masters_of(settings), time.time(), secrets.token_hex(8)

    def rotated(app: Application) -> Application:
        again = any(key.kid == kid for key in app.keys)  # the answer to the first sending got lost
        return app if again else app.rotated(masters, overlap, now, kid)

    changed = yield from _change(settings, name, rotated, tell)
    return Issued(changed, masters.newest.credentials(name, kid))


def allow(settings: Settings, name: str, allowance: Scopes, tell: Tell = _nobody) -> Flow[Application]:
    """Return an application another allowance. It counts for tokens that it has made, too."""
    now = time.time()
    return (yield from _change(settings, name, lambda app: app.with_allowance(allowance, now), tell))


def switch(settings: Settings, name: str, *, disabled: bool, tell: Tell = _nobody) -> Flow[Application]:
    """Disable an application, so that no token of its counts, or enable it again."""
    now = time.time()
    return (yield from _change(settings, name, lambda app: app.switched(disabled=disabled, now=now), tell))


def revoke_all(settings: Settings, name: str, tell: Tell = _nobody) -> Flow[Application]:
    """Revoke all tokens of an application that were issued before now, by whatever clock; see `revoked_all`.

    Its secret goes on: see `rotate`.
    """
    now = time.time()
    return (yield from _change(settings, name, lambda app: app.revoked_all(now), tell))


def revoke(settings: Settings, name: str, token: str, tell: Tell = _nobody) -> Flow[Application]:
    """Revoke one token and all that were narrowed from it, by itself or by its id (jti) alone.

    Raises:
        InvalidToken: it is a token cut short; TokenExpired: there is nothing left to revoke.
        InvalidApplication: it is another application's token, or neither a token nor an id.
    """
    now = time.time()
    jti, expires_at = token, None
    if is_token(token):
        registry = yield from read(settings)
        jti, expires_at = _identified(registry, settings, name, token, now)
    return (yield from _change(settings, name, lambda app: app.revoked(jti, expires_at, now), tell))


def is_token(text: str) -> bool:
    """Return whether a text is a token, or the beginning of one, rather than a token's id."""
    return "." in text or text == VERSION


def _identified(registry: Registry, settings: Settings, name: str, token: str, now: float) -> tuple[str, int | None]:
    """Return the id of a genuine token, and when the one it was narrowed from expires."""
    try:
        grant = registry.verify(token, now, settings.token_audience)
    except TokenExpired:
        raise
    except InvalidToken as error:
        if error.reason not in ("revoked", "not_yet", "audience"):
            raise
        return str(tokens.inspect(token)["payload"]["jti"]), int(now + MAX_TTL)
    if grant.app != name:
        raise InvalidApplication(f"The token is not one of {name}'s.")
    return grant.jti, int(tokens.inspect(token)["payload"]["exp"])


def _change(settings: Settings, name: str, change: Change, tell: Tell) -> Flow[Application]:
    return (yield from _write(settings, name, lambda there, torn: change(_known(there, name, torn)), tell))


def _write(
    settings: Settings,
    name: str,
    change: Callable[[Application | None, bool], Application],
    tell: Tell = _nobody,
) -> Flow[Application]:
    """Write what `change` makes of the application that is there, or of none and whether its record does not verify.

    Raises:
        ApplicationConflict: others wrote in between, again and again.
    """
    masters, apps = masters_of(settings), keys.apps_key(settings.namespace)
    told: Application | None = None
    for _ in range(_TRIES):
        found: Records = yield store.applications.applications(apps)
        before = found.records.get(name, b"")
        there = Application.from_record(settings.namespace, name, before, masters)
        changed = change(there, there is None and before != b"")
        if changed is there:
            return changed
        if there is not None and there != told:
            tell(there)
            told = there
        outcome = yield store.applications.application(
            apps, name, before, changed.to_record(settings.namespace, masters), MOST
        )
        if outcome is None:
            return changed
        if not isinstance(outcome, ApplicationConflict):
            raise outcome
    raise ApplicationConflict


def _known(app: Application | None, name: str, unverified: bool = False) -> Application:
    if app is not None:
        return app
    if unverified:
        raise ApplicationNotFound(
            f"The record of application {name[:64]!r} does not verify: REDISQ_MASTER_KEY does not hold the key that "
            "made it, or somebody has changed it. `redisq app create` with --replace puts a new one in its place."
        )
    raise ApplicationNotFound(f"There is no application {name[:64]!r} in this namespace. `redisq app list` lists them.")
