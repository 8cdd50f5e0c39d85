"""redisq: a Redis-backed distributed message queue.

The public names are loaded on first use, so that `import redisq` costs next to nothing (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redisq.aclient import AsyncRedisQ
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
        QueueFull,
        QueueNotFound,
        RedisQError,
        SchemaViolation,
        TokenExpired,
        Unavailable,
        WorkerError,
    )
    from redisq.model import Definition, Finding, Message, QueueStats, Status, Transition
    from redisq.settings import Settings
    from redisq.tokens import Credentials
    from redisq.worker import Delivery, Reject, Retry, Worker

__version__ = "0.1.0"

_HOME = {
    "AsyncRedisQ": "aclient",
    "RedisQ": "client",
    "Definition": "model",
    "Finding": "model",
    "Message": "model",
    "QueueStats": "model",
    "Status": "model",
    "Transition": "model",
    "Settings": "settings",
    "Credentials": "tokens",
    "Delivery": "worker",
    "Reject": "worker",
    "Retry": "worker",
    "Worker": "worker",
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
    "QueueFull": "errors",
    "QueueNotFound": "errors",
    "RedisQError": "errors",
    "SchemaViolation": "errors",
    "TokenExpired": "errors",
    "Unavailable": "errors",
    "WorkerError": "errors",
}

__all__ = [
    "ApplicationConflict",
    "ApplicationNotFound",
    "AsyncRedisQ",
    "BatchError",
    "Credentials",
    "Definition",
    "Delivery",
    "Finding",
    "Forbidden",
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
    "LeaseLost",
    "Message",
    "MessageConflict",
    "MessageNotFound",
    "MessageTooLarge",
    "MissingCredentials",
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
    "TokenExpired",
    "Transition",
    "Unavailable",
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
