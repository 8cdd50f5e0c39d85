"""Every error redisq raises, and how a server's words become one of them.

    RedisQError
    ├── InvalidQueueName
    ├── InvalidMessage
    │   ├── MessageTooLarge
    │   └── SchemaViolation
    ├── InvalidArgument
    ├── InvalidDefinition
    ├── InvalidSettings
    ├── InvalidHandler
    ├── QueueNotFound
    ├── MessageNotFound
    ├── MessageConflict
    ├── QueueFull
    ├── BatchError
    ├── LeaseLost
    ├── WorkerError
    ├── TestingError
    │   └── NeverIdle
    ├── MissingCredentials
    ├── InvalidCredentials
    ├── InvalidApplication
    ├── ApplicationNotFound
    ├── ApplicationConflict
    ├── InvalidToken
    │   └── TokenExpired
    ├── Forbidden
    └── Unavailable
        ├── Indeterminate
        └── UpgradeNeeded

The first paragraph of a class's docstring is its message when none is given. `code` is the stable word that the command
line and HTTP print. No error carries a secret, a token or a message body. Each survives pickle and copy with its
fields: a process pool brings it home.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class RedisQError(Exception):
    """Something went wrong in redisq."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").partition("\n\n")[0].split()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[RedisQError], args: tuple[Any, ...]) -> RedisQError:
    """Make an error anew without its constructor, which may want other arguments than it hands on."""
    return kind.__new__(kind, *args)


class InvalidQueueName(RedisQError):
    """A queue name is 1 to 128 of A-Z a-z 0-9 . _ - and starts with a letter or a digit."""

    code = "invalid_queue_name"


class InvalidMessage(RedisQError):
    """The message, or the id given for it, cannot be queued. Correct it first.

    `path` names the place in the message, `$.items[3].price`, or is None when it concerns the whole.
    """

    code = "invalid_message"

    def __init__(self, message: str | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class MessageTooLarge(InvalidMessage):
    """The message is larger than the queue's max_bytes. Send a reference to its data, or raise max_bytes."""

    code = "message_too_large"


class SchemaViolation(InvalidMessage):
    """The message does not fit the queue's schema. Correct the message, or change the schema.

    `errors` are what is wrong with it, the first 20: each a dict of `path` and `message`.
    """

    code = "schema_violation"

    def __init__(
        self, message: str | None = None, path: str | None = None, errors: Sequence[Mapping[str, str]] = ()
    ) -> None:
        super().__init__(message, path)
        self.errors = [dict(error) for error in errors]


class InvalidArgument(RedisQError, ValueError):
    """An argument is of the wrong type or out of its bounds; nothing was sent."""

    code = "invalid_argument"


class InvalidDefinition(RedisQError, ValueError):
    """The queue's definition is not valid. See the settings of `redisq.Definition`."""

    code = "invalid_definition"


class InvalidSettings(RedisQError, ValueError):
    """A setting is not valid. Correct the REDISQ_ variable or the argument of Settings."""

    code = "invalid_settings"


class InvalidHandler(RedisQError, TypeError):
    """This function can be no handler, no function of a schedule, no lifespan or no middleware.

    See `Worker.handler`, `Worker.every`, `Worker.lifespan` and `Worker.middleware`.
    """

    code = "invalid_handler"


class QueueNotFound(RedisQError):
    """There is no queue of this name in this namespace: nothing was ever queued to it, or it was dropped."""

    code = "queue_not_found"


class MessageNotFound(RedisQError):
    """There is no message with this id in this queue: it never was, was deleted, or its retention has passed.

    Otherwise its queue, REDISQ_NAMESPACE or REDISQ_URL are others than where it was queued.
    """

    code = "message_not_found"


class MessageConflict(RedisQError):
    """This id was queued before with another body. Queue the new body under a new id."""

    code = "message_conflict"


class QueueFull(RedisQError):
    """The queue is at its max_length, or Redis is out of memory. Queue again later.

    `retry_after` is a suggestion in seconds.
    """

    code = "queue_full"

    def __init__(self, message: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BatchError(RedisQError):
    """Some messages of the batch were refused; the others are in the queue.

    `ids` holds the id of every message, in order; `errors` maps an index to its error. Calling again with `ids=` is
    safe.
    """

    code = "batch_error"

    def __init__(self, ids: Sequence[str], errors: Mapping[int, RedisQError]) -> None:
        self.ids = list(ids)
        self.errors = dict(errors)
        index, first = next(iter(self.errors.items()))
        super().__init__(
            f"{len(self.errors)} of {len(self.ids)} messages were refused; the first is number {index}: {first}"
        )


class LeaseLost(RedisQError):
    """This delivery no longer holds the message: it was deleted, or its lease lapsed. Stop working on it."""

    code = "lease_lost"


class WorkerError(RedisQError, RuntimeError):
    """The worker cannot run here and now."""

    code = "worker_error"


class TestingError(RedisQError):
    """What redisq.testing was asked for cannot be done here."""

    code = "testing_error"
    __test__ = False  # pytest looks for tests in what is so called


class NeverIdle(TestingError):
    """The worker has not become idle within the time that it was given."""

    code = "never_idle"


class MissingCredentials(RedisQError):
    """No token and no credentials: set REDISQ_APP_ID and REDISQ_APP_SECRET (`redisq app create NAME` prints a pair),
    pass token=, or switch tokens off with auth="none" (REDISQ_AUTH=none)."""

    code = "missing_credentials"


class InvalidCredentials(RedisQError, ValueError):
    """The application's credentials are not valid. `redisq app create NAME` makes new ones."""

    code = "invalid_credentials"


class InvalidApplication(RedisQError, ValueError):
    """This cannot be done with the application: a value is not valid, or there is too much of something."""

    code = "invalid_application"


class ApplicationNotFound(RedisQError):
    """There is no application of this name in this namespace. `redisq app list` lists them."""

    code = "application_not_found"


class ApplicationConflict(RedisQError):
    """The application's record was changed by somebody else meanwhile; nothing was changed. Try again."""

    code = "application_conflict"


class InvalidToken(RedisQError):
    """The token is not valid. Make a new one.

    `reason` says which check refused it: malformed, too_large, version, unknown_key, bad_mac, claim_missing,
    claim_type, claim_unknown, not_yet, ttl, audience, app, caveat, revoked or expired. It is for logs;
    tell a stranger only that the token is not valid.
    """

    code = "invalid_token"

    def __init__(self, message: str | None = None, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class TokenExpired(InvalidToken):
    """The token has expired. Make a new one; if this one is new, the clocks of two machines differ: set them by NTP."""

    code = "token_expired"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, reason="expired")


class Forbidden(RedisQError):
    """The token does not allow this operation on this queue. Use one that does."""

    code = "forbidden"


class Unavailable(RedisQError):
    """Redis cannot serve this call now. Nothing is known to have changed; calling again is safe."""

    code = "unavailable"
    _login: bool = False  # the server refused the user name or password


class Indeterminate(Unavailable):
    """The call was sent and its answer was lost: it may or may not have happened.

    `id` is the message's id, where the call had one. Queueing again with `id=` is safe: it is never queued twice.
    """

    code = "indeterminate"
    _cut: bool = False  # the server closed the connection instead of answering: asking for less may help

    def __init__(self, message: str | None = None, id: str | None = None) -> None:
        super().__init__(message)
        self.id = id


class UpgradeNeeded(Unavailable):
    """The queue needs a newer redisq than this one. Nothing was changed; upgrade this process.

    `feature` is what the queue's definition needs and this redisq does not know, `version` the first redisq that does,
    None where the definition does not tell.
    """

    code = "upgrade_needed"

    def __init__(self, feature: str = "", version: str | None = None) -> None:
        self.feature = feature
        self.version = version
        wanted = "a newer redisq" if version is None else f"redisq {version} or later"
        super().__init__(f"The queue needs {feature or 'a feature'}, which takes {wanted}: nothing was changed.")
