"""Workers: one process that claims messages, runs handlers and keeps leases.

Imports: body, claims, drivers, errors, link, model, operations, preload, runtime, settings, store, tokens.
"""

from redisq.worker.handlers.batches import Batch
from redisq.worker.handlers.delivery import Delivery
from redisq.worker.handlers.verdicts import Defer, Reject, Retry
from redisq.worker.registry import Handlers
from redisq.worker.worker import Worker

__all__ = ["Batch", "Defer", "Delivery", "Handlers", "Reject", "Retry", "Worker"]
