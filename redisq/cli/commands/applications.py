"""Manage applications: with REDISQ_MASTER_KEY those of the registry in Redis; without it only make credentials."""

from __future__ import annotations

import contextlib
import secrets
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import options, output, tables
from redisq.cli.commands import redis_users
from redisq.errors import InvalidApplication, InvalidSettings

if TYPE_CHECKING:
    from rich.table import Table

    from redisq.settings import Settings
    from redisq.tokens.applications import Application
    from redisq.tokens.scopes import Scopes
    from redisq.tokens.token import Credentials

app = typer.Typer(help="Manage applications.", no_args_is_help=True)

_DEFAULT_OVERLAP = "7d"
_SHOWN = 3  # scopes in a line of the list


def _overlap(value: str) -> float:
    from redisq.operations.applications import LONGEST_OVERLAP

    number = options.seconds(value)
    if number > LONGEST_OVERLAP:
        raise typer.BadParameter("An overlap is a year at most.")
    return number


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the application.", show_default=False)]
Allow = Annotated[
    list[str] | None,
    options.valued(
        "--allow",
        "OPS:PATTERN",
        "Allow these on that queue, or with a final * on all that begin so: queue,get:orders or 'work:reports.*'.",
    ),
]
AllowAll = Annotated[bool, typer.Option("--allow-all", help="Allow everything on every queue.")]


@app.command("create")
def create(
    name: Name,
    allow: Allow = None,
    allow_all: AllowAll = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Write over a record of this name: what was made with its secrets, and what was revoked, ends.",
        ),
    ] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Make an application with new credentials, and print them as lines for a shell. They are stored nowhere: keep
    them.

    With REDISQ_MASTER_KEY it is registered in Redis, so that the gateway knows it; say what it may do. Without one,
    credentials are made that count in direct mode alone.
    """
    from redisq.settings import Settings
    from redisq.tokens.token import Credentials

    settings = Settings.of_registry(url)
    if settings is None:
        if allow or allow_all or replace or url:
            raise output.CommandError(
                "REDISQ_MASTER_KEY is not set, and an application is registered with it. `redisq app master-key` "
                "prints a new one. Without it, `redisq app create NAME` makes credentials for direct mode."
            )
        _print(Credentials.generate(name), {}, as_json, done="Nothing was changed: make other credentials.")
        return
    from redisq.client import RedisQ, run
    from redisq.operations import applications

    allowance = _allowance(allow, allow_all)
    was = _Was(as_json, later=True)
    with RedisQ(settings=settings) as mq:
        issued = run(mq, lambda _: applications.create(settings, name, allowance, replace=replace, tell=was))
    done = f"{name} is registered, but its secret was not printed: `redisq app rotate {name}` makes another one."
    _print(issued.credentials, {"allowance": allowance.texts()}, as_json, done, was)


@app.command("allow")
def allow_(
    name: Name,
    allow: Allow = None,
    allow_all: AllowAll = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Change what an application may do, which counts for the tokens it has made, too."""
    from redisq.operations import applications

    allowance, was = _allowance(allow, allow_all), _Was(as_json)
    changed = _run(url, lambda settings: applications.allow(settings, name, allowance, was))
    text = f"{name} may do {', '.join(changed.allowance.texts())}. For its Redis user see `redisq app acl {name}`."
    output.show(as_json, {**_document(changed), **was.document()}, text, done=text)


@app.command("list")
def list_(url: options.Url = None, as_json: options.AsJson = False) -> None:
    """List the applications that are registered."""
    from redisq.operations import applications

    registry = _run(url, applications.read)
    if as_json:
        found = [_document(app) for app in registry.applications.values()]
        output.document({"applications": found, "unverified": list(registry.unverified)})
        return
    if registry.applications:
        tables.show(_table(list(registry.applications.values())))
    elif not registry.unverified:
        output.text("There are none.")
    for name in registry.unverified:
        output.complain(
            f"the record of {name} does not verify with REDISQ_MASTER_KEY, and counts as none: the key that made it is "
            "missing there, or somebody has changed it"
        )


@app.command("show")
def show(name: Name, url: options.Url = None, as_json: options.AsJson = False) -> None:
    """Print an application: what it may do, its keys, what was revoked. It never shows a secret."""
    from redisq.operations import applications

    found = _document(_run(url, lambda settings: applications.show(settings, name)))
    if as_json:
        output.document(found)
        return
    console = output.console()
    for field, value in found.items():
        console.print(f"{field:<11} {output.printable(value if isinstance(value, str) else output.readable(value))}")


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[
        float, options.valued("--overlap", "TIME", "Let the old secret go on for this time; 0 cuts it off.", _overlap)
    ] = _DEFAULT_OVERLAP,  # type: ignore[assignment]  # the parser reads it
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Give an application a new secret and print it, once."""
    from redisq.operations import applications

    was = _Was(as_json, later=True)
    issued = _run(url, lambda settings: applications.rotate(settings, name, overlap, was))
    retiring = [key.not_after for key in issued.application.keys[1:]]
    done = f"{name} has a new secret that was not printed: `redisq app rotate {name}` makes another one."
    _print(issued.credentials, {"old_until": _iso(max(filter(None, retiring), default=0))}, as_json, done, was)


@app.command("disable")
def disable(name: Name, url: options.Url = None, as_json: options.AsJson = False) -> None:
    """Let no token of an application count, and switch off the Redis user of its name, if there is one."""
    _switch(name, True, url, as_json)


@app.command("enable")
def enable(name: Name, url: options.Url = None, as_json: options.AsJson = False) -> None:
    """Let an application in again, and switch on the Redis user of its name, if there is one."""
    _switch(name, False, url, as_json)


def _switch(name: str, disabled: bool, url: str | None, as_json: bool) -> None:
    from redisq.operations import applications

    settings, was = _settings(url), _Was(as_json)
    _run(url, lambda _: applications.switch(settings, name, disabled=disabled, tell=was))
    user = redis_users.switch(settings, name, on=not disabled)
    text = f"{name} is {'disabled' if disabled else 'enabled'}. {user.text}"
    output.show(as_json, {"name": name, "disabled": disabled, "redis_user": user.state}, text, done=text)


@app.command("revoke")
def revoke(
    name: Name,
    token: Annotated[
        str | None,
        options.valued("--token", "TOKEN|JTI|-", "This token, and all narrowed from it, by itself or its id."),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="All tokens issued before now.")] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Revoke tokens of an application. It can make new ones: `rotate` takes its secret away, `disable` all of it."""
    from redisq.operations import applications

    if (token is None) is not all:
        raise typer.BadParameter("Say which: --token TOKEN, or --all.")
    was = _Was(as_json)
    if token is None:
        changed = _run(url, lambda settings: applications.revoke_all(settings, name, was))
        text = (
            f"revoked all tokens of {name} issued before {_iso(changed.not_before)}: those of now, by a clock that is "
            "ahead, too. One that it signs itself counts from then on, one from /_token at once"
        )
    else:
        given = options.given(token, 4096)
        changed = _run(url, lambda settings: applications.revoke(settings, name, given, was))
        how = "" if applications.is_token(given) else " (by its id)"
        text = f"revoked the token{how}, and all that were narrowed from it; {len(changed.denied):,} of {name} are"
    output.show(as_json, {**_document(changed), **was.document()}, text, done=f"The tokens are revoked: {text}.")


@app.command("acl")
def acl(name: Name, url: options.Url = None, as_json: options.AsJson = False) -> None:
    """Print the Redis ACL rules that hold an application to its queues in direct mode, with a new password.

    Redis knows keys and commands: such a user may do whatever its application may do anywhere, on all of its queues.
    """
    from redisq.operations import applications
    from redisq.store import acl as rules_of

    settings = _settings(url)
    found = _run(url, lambda _: applications.show(settings, name))
    password = secrets.token_urlsafe(24)
    rules = rules_of.rules(settings.namespace, found.allowance, password)
    line = rules_of.quoted(name, rules)
    if redis_users.is_reserved(name):
        raise InvalidApplication(f"{name} is the Redis user of everybody: register the application under another name.")
    output.show(as_json, {"user": name, "password": password, "rules": rules, "command": line}, line)
    if not rules_of.covers_product(found.allowance):
        ops = ", ".join(sorted(found.allowance.ops))
        output.complain(f"Redis tells keys apart, not operations: this user may do {ops} on each queue of {name}")


@app.command("master-key")
def master_key(as_json: options.AsJson = False) -> None:
    """Print a new master key for REDISQ_MASTER_KEY. It is stored nowhere: keep it where you keep passwords.

    To rotate it, put the new one before the old one, separated by a comma, and rotate the applications.
    """
    from redisq.tokens.applications import MasterKey

    text = MasterKey.generate().text()
    output.show(as_json, {"master_key": text}, f"export REDISQ_MASTER_KEY={text}")


def _settings(url: str | None) -> Settings:
    from redisq.operations.applications import NO_MASTER_KEY
    from redisq.settings import Settings

    settings = Settings.of_registry(url)
    if settings is None:
        raise InvalidSettings(NO_MASTER_KEY)
    return settings


def _run(url: str | None, flow: Any) -> Any:
    """Run a flow on the registry."""
    from redisq.client import RedisQ, run

    settings = _settings(url)
    with RedisQ(settings=settings) as mq:
        return run(mq, lambda _: flow(settings))


def _allowance(texts: list[str] | None, everything: bool) -> Scopes:
    from redisq.tokens.scopes import EVERYTHING, Scopes

    if bool(texts) is everything:
        raise typer.BadParameter(
            "Say what it may do: --allow OPS:PATTERN, like --allow queue,get:orders; or --allow-all."
        )
    try:
        return EVERYTHING if everything else Scopes.parse(texts or [])
    except ValueError as error:
        raise output.CommandError(f"{error}.") from None


class _Was:
    """Says when an application was last changed, before it is changed: an old record that somebody put back shows so.

    What a shell is to read is said `later` there, as a comment that hides nothing of it; but at once on a terminal.
    """

    def __init__(self, as_json: bool, *, later: bool = False) -> None:
        self._as_json = as_json
        self._later = later
        self.app: Application | None = None

    def __call__(self, app: Application) -> None:
        self.app = app
        if self._later and sys.stderr.isatty():
            output.complain(self.text(app))
        elif not (self._later or self._as_json):
            with contextlib.suppress(output.OutputLost):  # the change matters more; the loss is told after it
                output.text(self.text(app))

    @staticmethod
    def text(app: Application) -> str:
        """Say it in a sentence."""
        return f"{app.name} was last changed {_iso(app.changed_at)}, version={app.version}"

    def document(self) -> dict[str, Any]:
        """Say it for programs."""
        found = self.app
        return {} if found is None else {"before": {"version": found.version, "changed_at": _iso(found.changed_at)}}


def _print(made: Credentials, more: dict[str, Any], as_json: bool, done: str, was: _Was | None = None) -> None:
    lines = [f"export REDISQ_APP_ID={made.app}", f"export REDISQ_APP_SECRET={made.secret()}"]
    document = {"app_id": made.app, "app_secret": made.secret(), **more}
    if was is not None and was.app is not None:
        lines.append(f"# {was.text(was.app)}")
        document |= was.document()
    output.show(as_json, document, "\n".join(lines), done)


def _document(app: Application) -> dict[str, Any]:
    keys = [
        {"kid": key.kid, "master": key.master, "created_at": _iso(key.created_at), "not_after": _iso(key.not_after)}
        for key in app.keys
    ]
    return {
        "name": app.name,
        "disabled": app.disabled,
        "allowance": app.allowance.texts(),
        "keys": keys,
        "created_at": _iso(app.created_at),
        "changed_at": _iso(app.changed_at),
        "not_before": _iso(app.not_before),
        "revoked": {jti: _iso(end) for jti, end in app.denied.items()},
        "version": app.version,
    }


def _iso(seconds: int | None) -> str | None:
    return output.iso(seconds) if seconds else None


def _table(found: list[Application]) -> Table:
    table = tables.begun("name", "state", "keys>", "revoked>", collapsed=True)
    table.add_column("may do", min_width=24)
    for app in found:
        state, may = "disabled" if app.disabled else "enabled", output.listed(app.allowance.texts(), _SHOWN)
        table.add_row(app.name, state, str(len(app.keys)), str(len(app.denied)), may)
    return table
