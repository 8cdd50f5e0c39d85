"""Make tokens, look into them and narrow them. Nothing here talks to Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redisq.cli import options, output
from redisq.errors import InvalidToken, MissingCredentials

if TYPE_CHECKING:
    from redisq.settings import Settings

token_app = typer.Typer(help="Make, read and narrow access tokens.", no_args_is_help=True)


def _op(value: str) -> str:
    from redisq.tokens.token import OPS

    if value not in OPS:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(sorted(OPS))}.")
    return value


def _lifetime(value: str) -> float:
    from redisq.tokens.token import MAX_TTL

    number = options.seconds(value)
    if not 0 < number <= MAX_TTL:
        raise typer.BadParameter(f"A token lives for more than 0 and at most {MAX_TTL:.0f} seconds.")
    return number


Ops = Annotated[
    list[str] | None, options.valued("--op", "OP", "Allow only this: queue, get, delete, work, stats, admin.", _op)
]
Patterns = Annotated[
    list[str] | None,
    options.valued("--queue", "PATTERN", "Allow only this queue, or with a final * all that begin so."),
]
Ttl = Annotated[float | None, options.valued("--ttl", "SECONDS", "Let it expire after this time.", _lifetime)]
GivenToken = Annotated[
    str, typer.Argument(metavar="TOKEN|-", help="The token; - reads it from stdin.", show_default=False)
]


@token_app.command("create")
def create(op: Ops = None, queue: Patterns = None, ttl: Ttl = None, as_json: options.AsJson = False) -> None:
    """Make a token from this application's credentials. Without options it allows everything, for REDISQ_TOKEN_TTL."""
    from redisq import tokens
    from redisq.settings import Settings

    settings = Settings()
    credentials = settings.credentials()
    if credentials is None:
        raise MissingCredentials(
            "No credentials to sign with: set REDISQ_APP_ID and REDISQ_APP_SECRET. "
            "`redisq app create NAME` prints a pair."
        )
    try:
        token = tokens.sign(
            credentials,
            audience=settings.token_audience,
            ops=op or tokens.OPS,
            queues=queue or ["*"],
            ttl=settings.token_ttl if ttl is None else ttl,
            now=time.time(),
        )
    except ValueError as error:
        raise _refused(error) from None
    output.show(as_json, {"token": token}, token)


@token_app.command("narrow")
def narrow(
    token: GivenToken,
    op: Ops = None,
    queue: Patterns = None,
    ttl: Ttl = None,
    scope: Annotated[
        list[str] | None,
        options.valued(
            "--scope",
            "OPS:PATTERN",
            "Allow only these on that queue, or with a final * on all that begin so: queue,get:orders.",
        ),
    ] = None,
    ip: Annotated[
        list[str] | None,
        options.valued("--ip", "ADDRESS", "Let it count from this address or network alone, at the gateway."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a token that allows less, without any secret. What it does not allow already, it never will."""
    from redisq import tokens
    from redisq.tokens.scopes import Scopes

    if not (op or queue or ttl or scope or ip):
        raise typer.BadParameter("Say what to take away: --op, --queue, --scope, --ip or --ttl.")
    expires_at = None if ttl is None else time.time() + ttl
    try:
        pairs = Scopes.parse(scope).texts() if scope else None
        narrowed = tokens.narrow(
            _given(token),
            ops=op or None,
            queues=queue or None,
            expires_at=expires_at,
            scope=pairs,
            addresses=ip or None,
        )
    except ValueError as error:
        raise _refused(error) from None
    output.show(as_json, {"token": narrowed}, narrowed)


@token_app.command("inspect")
def inspect(token: GivenToken, as_json: options.AsJson = False) -> None:
    """Print what a token says, and whether it is good for this process' own credentials."""
    from redisq import tokens
    from redisq.settings import Settings

    given = _given(token)
    found = tokens.inspect(given) | _verdict(given, Settings())
    if as_json:
        output.document(found)
        return
    console = output.console()
    for name, value in _lines(found):
        console.print(f"{name:<11}{output.printable(value)}", soft_wrap=True)


def _verdict(token: str, settings: Settings) -> dict[str, Any]:
    """Return whether the token is valid here, and what it allows once its caveats are applied."""
    from redisq import tokens

    credentials = settings.credentials()
    if credentials is None:
        return {"valid": None, "reason": "not checked: REDISQ_APP_ID and REDISQ_APP_SECRET are not set", "allows": None}
    try:
        known = {credentials.kid: credentials}
        grant = tokens.verify(token, known, audience=settings.token_audience, now=time.time())
    except InvalidToken as error:
        return {"valid": False, "reason": error.reason, "allows": None}
    allows = {"ops": sorted(grant.ops), "queues": list(grant.queues), "expires_at": _iso(grant.expires_at)}
    if grant.scopes:
        allows["scope"] = grant.effective().texts()
    if grant.addresses:
        allows["ip"] = [str(network) for network in grant.addresses]
    return {"valid": True, "reason": None, "allows": allows}


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    verdict = {True: "yes", False: f"no: {found['reason']}", None: found["reason"]}[found["valid"]]
    lines = [("valid", verdict), ("key id", found["kid"])]
    for name, value in found["payload"].items():
        lines.append((str(name), _iso(value) if name in ("iat", "nbf", "exp") else output.readable(value)))
    lines += [("caveat", output.readable(caveat)) for caveat in found["caveats"]]
    if found["allows"]:
        lines.append(("allows", output.readable(found["allows"])))
    return lines


def _iso(value: Any) -> str:
    """Write a time; an unverified token may hold anything in its place."""
    try:
        return output.iso(value)
    except (TypeError, ValueError, OverflowError, OSError):
        return output.readable(value)


def _given(token: str) -> str:
    from redisq.tokens.token import MAX_TOKEN_BYTES

    return options.given(token, 2 * MAX_TOKEN_BYTES)


def _refused(error: ValueError) -> output.CommandError:
    text = str(error)
    if text.startswith("addresses "):
        text = "an address reads like 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32"
    if text.startswith("queues "):
        text = "a pattern is a queue's name, or the beginning of one and a final *"
    return output.CommandError(f"No such token can be made: {text}.")
