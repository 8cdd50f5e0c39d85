"""Rules for a Redis ACL user that hold an application to its queues in direct mode, where no gateway does. Pure.

Redis knows keys and commands, not operations. So the user may do on each queue of the application's allowance whatever
one of its operations needs on any; which operation goes with which queue, the gateway alone tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from redisq.store import scripts
from redisq.store.keys import LAYOUT, queues_key
from redisq.tokens.scopes import Scopes

#: the scripts that each operation runs
SCRIPTS: Mapping[str, Sequence[str]] = {
    "queue": ("queue", "register", "define", "schema"),
    "get": ("get", "ended"),
    "delete": ("delete", "cancel"),
    "work": ("claim", "complete", "fail", "renew", "release", "leave", "sweep", "registry"),
    "stats": ("stats", "registry", "page"),
    "admin": (
        *("define", "register", "purge", "drop", "unregister", "sweep", "get", "stats", "registry"),
        *("dead", "redrive", "delete", "audit", "look", "survey"),
    ),
}
#: what those run, too, who may administrate every queue: the names of all keys of the server are not for others
EVERYWHERE = ("info", "scan")
#: what redisq sends itself, and a worker beside it
SENT = ("eval", "evalsha", "info", "client|setname", "select")
SENT_BY_WORKERS = ("blpop", "subscribe")
#: what scripts try: who may not, tells workers nothing, and they learn it later
TRIED = {"delete": "publish"}

_GLOB = "*?[]\\^"


def rules(namespace: str, allowance: Scopes, password: str) -> list[str]:
    """Return the rules of ACL SETUSER, after the user's name, for an application of this allowance."""
    patterns = key_patterns(namespace, allowance)
    keys = [f"~{pattern}" for pattern in patterns]
    hinted = {"delete", "work"} & set(allowance.ops)
    channels = [f"&{pattern}" for pattern in patterns[:-1]] if hinted else []  # the last is of the registry
    run = [f"+{command}" for command in commands(allowance)]
    return ["reset", "resetchannels", "on", f">{password}", *keys, *channels, *run]


def key_patterns(namespace: str, allowance: Scopes) -> list[str]:
    """Return the patterns of the keys of its queues, and of the registry of queues."""
    patterns = {pattern for _, pattern in allowance.pairs}
    prefix = f"{_escaped(namespace)}:{LAYOUT}:{{"
    found: set[str] = set()
    for pattern in patterns:
        name = _escaped(pattern.removesuffix("*"))
        if pattern.endswith("*"):
            found.add(f"{prefix}{name}*")
        else:
            found |= {f"{prefix}{name}}}:*", f"{prefix}{name}#*"}  # its only partition, or any of several
    return [*sorted(found), _escaped(queues_key(namespace))]


def _escaped(text: str) -> str:
    """Keep Redis from reading a name as a pattern."""
    return "".join(f"\\{char}" if char in _GLOB else char for char in text)


def commands(allowance: Scopes) -> list[str]:
    """Return the commands that its operations need."""
    names = {script for op in allowance.ops for script in SCRIPTS[op]}
    if "*" in allowance.patterns("admin"):
        names |= set(EVERYWHERE)
    run = {command.lower() for name in names for command in scripts.load(name).commands}
    run |= {TRIED[op] for op in allowance.ops if op in TRIED}
    return sorted(run | set(SENT) | (set(SENT_BY_WORKERS) if "work" in allowance.ops else set()))


def is_ours(reply: Any, namespace: str) -> bool:
    """Return by a reply to ACL GETUSER whether the user may touch keys of this namespace's queues, and no others.

    So an application is not taken for the user of an operator, or of another program, that has its name by chance.
    """
    found = dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else dict(reply or {})
    if found.get(b"selectors"):
        return False
    keys = found.get(b"keys", b"")
    texts = keys.decode(errors="replace").split() if isinstance(keys, bytes) else [key.decode() for key in keys]
    starts = [f"{mark}{_escaped(namespace)}:{LAYOUT}:" for mark in ("~", "")]  # Redis 7 writes the mark, 6.2 does not
    return bool(texts) and all(any(text.startswith(start) for start in starts) for text in texts)


def quoted(name: str, parts: Sequence[str]) -> str:
    """Write the command as a line for redis-cli."""
    return " ".join(["ACL", "SETUSER", name, *parts])


def covers_product(allowance: Scopes) -> bool:
    """Return whether the rules allow no more than the allowance: each of its operations on each of its queues."""
    return allowance.covers(Scopes(tuple(product(allowance.ops, (pattern for _, pattern in allowance.pairs)))))
