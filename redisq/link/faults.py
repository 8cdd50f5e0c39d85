"""What an exception of redis-py, or an error reply of the server, means: which of our errors, and whether to retry.

A reply is known by its first word. On Redis 6.2 an error inside a script arrives as `ERR Error running script (call to
f_...): @user_script:12: -OOM command not allowed ...`; there the word after the last `@user_script:<line>:` counts.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from redisq.errors import Indeterminate, QueueFull, RedisQError, Unavailable, UpgradeNeeded

_IN_SCRIPT = re.compile(r"^.*@user_script: ?\d+: ?-?", re.DOTALL)
_WORD = re.compile(r"[A-Z]{2,}")
_BAD_ARGUMENT = re.compile(r"BADARG (\w+)")  # what our scripts raise: see lib/arguments.lua
_NEEDED = re.compile(r"UPGRADE (?:(\w+)@([\d.]+)|\?)")  # and lib/needs.lua
_LOST = ("ConnectionError", "TimeoutError")
_STARVED = (errno.EMFILE, errno.ENFILE)
NEEDED = "redisq needs Redis 6.2 or later, or Valkey 7.2 or later"

#: redis-py takes these words off the text, so its class has to give them back. By name: not every version has each.
_WORD_OF_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "NoPermissionError": "NOPERM",
    "AuthorizationError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "ClusterCrossSlotError": "CROSSSLOT",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "NoScriptError": "NOSCRIPT",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "InvalidResponse": "PROTOCOL",
}

_WORD_OF_TEXT = {
    "Authentication required": "NOAUTH",  # redis-py has one class for this and for a refused password
    "HELLO must be called with the client already authenticated": "NOAUTH",  # the same, with RESP3
    "The user executing the script can't": "NOPERM",  # inside a script, Redis 6.2 and 7.0
    "ACL failure in script": "NOPERM",  # inside a script, Redis 7.2, Valkey
    "DB index is out of range": "NODB",
    "invalid DB index": "NODB",
    "SELECT is not allowed in cluster mode": "CROSSSLOT",
    "unknown command": "OLD",
    "Unknown Redis command called from": "OLD",  # inside a script
    "timeout is not an integer": "OLD",  # BLPOP before 6.0
    "WRONGTYPE no number of partitions": "ENTRY",  # of register.lua
}

#: words that pass by themselves: the server starts, fails over, saves, runs somebody's slow script
_PASSING = {
    "LOADING": "it is loading its data",
    "READONLY": "this is a read-only replica; a failover is under way, or REDISQ_URL names a replica",
    "MASTERDOWN": "its primary is down",
    "CLUSTERDOWN": "its cluster is down",
    "TRYAGAIN": "its slots are moving",
    "BUSY": "it is busy with a slow script",
    "MISCONF": "it cannot save to its disk; look at its log, free some disk",
    "NOREPLICAS": "it has too few replicas to accept writes",
    "UNBLOCKED": "its role has changed",
}
_LASTING = {
    "WRONGPASS": "the user name or password in REDISQ_URL is wrong; it reads redis://USER:PASSWORD@host",
    "NOAUTH": "it wants a password: put it in REDISQ_URL, redis://:PASSWORD@host",
    "NOPERM": "its ACL does not allow this user what redisq needs: scripts and their commands, on the namespace's keys",
    "NODB": "it has no database of that number; REDISQ_URL ends in it, and without another configuration 0 to 15 exist",
    "DENIED": "it is in protected mode: until it has a password it takes connections from its own host alone",
    "PROTOCOL": "what answers there is no Redis; does REDISQ_URL name another port, or is it rediss:// for TLS",
    "OLD": f"it does not know a command that redisq needs. {NEEDED}; no command may be renamed",
    "WRONGTYPE": "one of the queue's keys holds a value that is not redisq's; nothing was changed. "
    "Look for another program that uses this database and namespace",
    "ENTRY": "the queue's entry in the registry is damaged; nothing was changed. `redisq doctor --fix` writes it anew",
    "MOVED": "it is part of a cluster, which is not supported yet",
    "ASK": "it is part of a cluster, which is not supported yet",
    "CROSSSLOT": "it is part of a cluster, which is not supported yet",
}

_OF_LOGIN = ("WRONGPASS", "NOAUTH")

_CA = "rediss://host:6379/0?ssl_ca_certs=/path/ca.pem"
_NO_TLS = "it does not speak it: REDISQ_URL takes redis:// there, without ssl_ca_certs and the like"
#: what OpenSSL calls faults that no waiting mends, by the beginning of its word after any `TLSV1_ALERT_` and the like
_OF_TLS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate does not verify ({}). REDISQ_URL names the file of the authority "
    f"that signed it, {_CA}, and the host as the certificate does",
    "CERTIFICATE": "it refuses this client's certificate, or wants one: REDISQ_URL names it by ssl_certfile= and "
    f"ssl_keyfile=, besides the server's authority, {_CA}",
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "PROTOCOL_VERSION": "it speaks other versions of TLS than this client: see ssl_min_version in REDISQ_URL",
    "UNSUPPORTED_PROTOCOL": "it speaks other versions of TLS than this client: see ssl_min_version in REDISQ_URL",
}
_OF_TLS |= dict.fromkeys(("UNKNOWN_CA", "BAD_CERTIFICATE", "HANDSHAKE_FAILURE"), _OF_TLS["CERTIFICATE"])
_OF_TLS |= dict.fromkeys(("UNSUPPORTED_CERTIFICATE", "DECRYPT_ERROR", "ACCESS_DENIED"), _OF_TLS["CERTIFICATE"])


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of ours for one of theirs. `retry`: the same call may succeed soon. `lost`: no reply came back.

    `away`: the server is not there for anybody, so that there is no point in others trying, too. `here`: the fault is
    this process' own, and tells nothing of the server.
    """

    error: RedisQError
    retry: bool
    lost: bool = False
    away: bool = False
    here: bool = False


def word_of(error: Exception) -> str:
    """Find the word that tells what a server's error reply means, "" when it has none."""
    text = _IN_SCRIPT.sub("", str(error))
    for beginning, known in _WORD_OF_TEXT.items():
        if text.startswith(beginning):
            return known
    for kind in type(error).__mro__:
        if kind.__name__ in _WORD_OF_CLASS:
            return _WORD_OF_CLASS[kind.__name__]
    word = _WORD.match(text)
    return word[0] if word else ""


def classify(error: Exception, server: str) -> Fault:
    """Return what `error` means. `server` names the server in the text, without its password."""
    if isinstance(error, RedisQError):
        return Fault(error, retry=False)
    word = word_of(error)
    if word == "OOM":
        return Fault(QueueFull(f"Redis at {server} is out of memory (maxmemory). Queue again later."), retry=False)
    if word in _PASSING:
        error = Unavailable(f"Redis at {server} cannot serve this now: {_PASSING[word]}.")
        return Fault(error, retry=True, away=word == "LOADING")
    if word == "BADARG" and (named := _BAD_ARGUMENT.search(str(error))):
        text = f"Redis at {server} was sent a bad argument ({named[1]}); nothing was changed. Please report this."
        return Fault(RedisQError(text), retry=False)
    if word == "UPGRADE" and (named := _NEEDED.search(str(error))):
        return Fault(UpgradeNeeded(named[1] or "", named[2]), retry=False)
    if word in _LASTING:
        refused = Unavailable(f"Redis at {server} refused: {_LASTING[word]}.")
        refused._login = word in _OF_LOGIN
        return Fault(refused, retry=False)
    if told := _of_tls(error):
        return Fault(Unavailable(f"Redis at {server} cannot be used over TLS: {told}."), retry=False)
    if is_starved(error):
        error = Unavailable(
            f"Redis at {server} cannot be reached: this process has no file descriptor left for a connection. "
            "Look what it leaves open, or raise its limit (ulimit -n)."
        )
        return Fault(error, retry=True, lost=True, here=True)
    if isinstance(error, OSError) or any(kind.__name__ in _LOST for kind in type(error).__mro__):
        error = Unavailable(f"Redis at {server} cannot be reached: {_reason(error)}")
        return Fault(error, retry=True, lost=True, away=True)
    return Fault(Unavailable(f"Redis at {server} answered with an error: {str(error)[:200]}"), retry=False)


def _of_tls(error: BaseException) -> str:
    """Return what OpenSSL found amiss, "" when that is not the cause, or may pass. redis-py hides it behind another."""
    for cause in _causes(error):
        if any(kind.__name__ == "SSLError" for kind in type(cause).__mro__):
            word = re.sub(r"^(TLSV1|TLSV13|SSLV3)_ALERT_", "", str(getattr(cause, "reason", "")))
            found = next((text for beginning, text in _OF_TLS.items() if word.startswith(beginning)), "")
            return found.format(str(getattr(cause, "verify_message", "")).rstrip("."))
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(10):  # deep enough; and whatever goes in a circle ends
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_starved(error: BaseException) -> bool:
    """Return whether there was no descriptor left for a connection: what is connected may be as well as ever."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):  # a name could not be looked up, and that has no other word for it
            return not _may_open()
        if isinstance(cause, OSError) and cause.errno in _STARVED:
            return True
    return False


def _may_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _STARVED
    return True


def is_timeout(error: Exception) -> bool:
    """Return whether an answer was waited for in vain, on a connection that stood."""
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)


def is_cut(error: Exception) -> bool:
    """Return whether an answer may have been too large for the server to send, so that asking for less may help."""
    return isinstance(error, Indeterminate) and error._cut


def is_login(error: Exception) -> bool:
    """Return whether the server refused the user name or password, or wants one: that is no outage."""
    return isinstance(error, Unavailable) and error._login


def _reason(error: Exception) -> str:
    if is_timeout(error):
        return "it did not answer in time. Is it overloaded, or its host gone?"
    text = str(error) or type(error).__name__
    return f"{text.rstrip('.')[:200]}. Is it running, and is REDISQ_URL right?"
