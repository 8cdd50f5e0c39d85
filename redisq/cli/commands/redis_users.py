"""The Redis user that holds an application to its queues in direct mode: switched off and on with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redisq.errors import Unavailable

if TYPE_CHECKING:
    from redisq.link.sync import Link
    from redisq.settings import Settings


@dataclass(frozen=True, slots=True)
class Switched:
    """What was done: `state` is on, off, none, foreign or unknown; `text` says it in a sentence."""

    state: str
    text: str


def is_reserved(name: str) -> bool:
    """Return whether a Redis user of this name is everybody's, and no application's."""
    return name == "default"


def switch(settings: Settings, name: str, *, on: bool) -> Switched:
    """Switch the Redis user of an application on or off, and end the connections of one that is off.

    Only a user who may touch this namespace's keys alone is an application's; any other one is left alone.
    """
    from redisq.link.sync import Link

    word = "on" if on else "off"
    link = Link(settings)
    try:
        return _switch(link, settings.namespace, name, word)
    except Unavailable as error:
        by_hand = f"ACL SETUSER {name} {word}" + ("" if on else f" and CLIENT KILL USER {name}")
        why = str(error).rstrip(".")
        return Switched("unknown", f"Whether there is a Redis user {name} is not known ({why}); by hand: {by_hand}.")
    finally:
        link.close()


def _switch(link: Link, namespace: str, name: str, word: str) -> Switched:
    from redisq.store.acl import is_ours

    user = None if is_reserved(name) else link.command("ACL", "GETUSER", name)
    if not user:
        return Switched("none", f"There is no Redis user {name}.")
    if not is_ours(user, namespace) or link.command("ACL", "WHOAMI") == name.encode():
        return Switched("foreign", f"The Redis user {name} is no application's of this namespace, and was left alone.")
    link.command("ACL", "SETUSER", name, word)
    if word == "off":
        link.command("CLIENT", "KILL", "USER", name)  # or who is connected could go on
    done = "on" if word == "on" else "off, and its connections are closed"
    return Switched(word, f"Its Redis user is {done}{_saved(link)}.")


def _saved(link: Link) -> str:
    try:
        link.command("ACL", "SAVE")
    except Unavailable:  # there is no ACL file
        return "; make it so in Redis' configuration, too, for when Redis starts again"
    return ", and the ACL file is written"
