"""redisq: a Redis-backed distributed message queue. Its parts, each of which imports only from those above it:

    errors, urls           every error; how a server is addressed
    guide/                 its chapters, as text
    runtime/               the process: signals and forks, event loops, logs, private files
    model/                 the nouns
    tokens/                who may do what
    embedded/              a private server for development and tests
    body/                  what a message holds: encoding, schemas
    store/                 how a queue lies in Redis: keys, scripts, calls and replies
    settings               the only reader of the environment
    link/                  one server: connections, faults, when to try again
    operations/            what can be asked, as flows
    drivers                run flows on a link, in threads and on event loops
    front_door             what both clients are
    client, async_client   the two front doors
    preload                what a process that runs for long reads at its start
    claims/                taking messages so that nobody is robbed of one
    worker/                handlers
    gateway/               HTTP
    cli/                   the command line
    integrations/          what fits it into frameworks
    testing/               tests of handlers: queues without a server, in virtual time

The public names are loaded on first use, so that `import redisq` costs next to nothing (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redisq.async_client import AsyncRedisQ
    from redisq.client import RedisQ
    from redisq.errors import (
        ApplicationConflict,
        ApplicationNotFound,
        BatchError,
        Forbidden,
        Indeterminate,
        InvalidApplication,
        InvalidArgument,
        InvalidCredentials,
        InvalidDefinition,
        InvalidHandler,
        InvalidMessage,
        InvalidQueueName,
        InvalidSettings,
        InvalidToken,
        LeaseLost,
        MessageConflict,
        MessageNotFound,
        MessageTooLarge,
        MissingCredentials,
        NeverIdle,
        QueueFull,
        QueueNotFound,
        RedisQError,
        SchemaViolation,
        TestingError,
        TokenExpired,
        Unavailable,
        UpgradeNeeded,
        WorkerError,
    )
    from redisq.model.audit import Finding
    from redisq.model.message import Message, Status, Transition
    from redisq.model.queue import Definition, QueueStats
    from redisq.operations.options import Item
    from redisq.runtime.logs import MessageFields
    from redisq.settings import Settings
    from redisq.tokens.token import Credentials
    from redisq.worker import Batch, Defer, Delivery, Handlers, Reject, Retry, Worker

__version__ = "0.1.0"

_HOME = {
    "AsyncRedisQ": "async_client",
    "RedisQ": "client",
    "Definition": "model.queue",
    "Finding": "model.audit",
    "Item": "operations.options",
    "Message": "model.message",
    "MessageFields": "runtime.logs",
    "QueueStats": "model.queue",
    "Status": "model.message",
    "Transition": "model.message",
    "Settings": "settings",
    "Credentials": "tokens.token",
    "Batch": "worker.handlers.batches",
    "Defer": "worker.handlers.verdicts",
    "Delivery": "worker.handlers.delivery",
    "Handlers": "worker.registry",
    "Reject": "worker.handlers.verdicts",
    "Retry": "worker.handlers.verdicts",
    "Worker": "worker.worker",
    "ApplicationConflict": "errors",
    "ApplicationNotFound": "errors",
    "BatchError": "errors",
    "Forbidden": "errors",
    "Indeterminate": "errors",
    "InvalidApplication": "errors",
    "InvalidArgument": "errors",
    "InvalidCredentials": "errors",
    "InvalidDefinition": "errors",
    "InvalidHandler": "errors",
    "InvalidMessage": "errors",
    "InvalidQueueName": "errors",
    "InvalidSettings": "errors",
    "InvalidToken": "errors",
    "LeaseLost": "errors",
    "MessageConflict": "errors",
    "MessageNotFound": "errors",
    "MessageTooLarge": "errors",
    "MissingCredentials": "errors",
    "NeverIdle": "errors",
    "QueueFull": "errors",
    "QueueNotFound": "errors",
    "RedisQError": "errors",
    "SchemaViolation": "errors",
    "TestingError": "errors",
    "TokenExpired": "errors",
    "Unavailable": "errors",
    "UpgradeNeeded": "errors",
    "WorkerError": "errors",
}

__all__ = [
    "ApplicationConflict",
    "ApplicationNotFound",
    "AsyncRedisQ",
    "Batch",
    "BatchError",
    "Credentials",
    "Defer",
    "Definition",
    "Delivery",
    "Finding",
    "Forbidden",
    "Handlers",
    "Indeterminate",
    "InvalidApplication",
    "InvalidArgument",
    "InvalidCredentials",
    "InvalidDefinition",
    "InvalidHandler",
    "InvalidMessage",
    "InvalidQueueName",
    "InvalidSettings",
    "InvalidToken",
    "Item",
    "LeaseLost",
    "Message",
    "MessageConflict",
    "MessageFields",
    "MessageNotFound",
    "MessageTooLarge",
    "MissingCredentials",
    "NeverIdle",
    "QueueFull",
    "QueueNotFound",
    "QueueStats",
    "RedisQ",
    "RedisQError",
    "Reject",
    "Retry",
    "SchemaViolation",
    "Settings",
    "Status",
    "TestingError",
    "TokenExpired",
    "Transition",
    "Unavailable",
    "UpgradeNeeded",
    "Worker",
    "WorkerError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
