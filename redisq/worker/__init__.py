"""Workers: one process that claims messages, runs handlers and keeps leases."""

from redisq.worker.delivery import Delivery
from redisq.worker.verdicts import Reject, Retry
from redisq.worker.worker import Worker

__all__ = ["Delivery", "Reject", "Retry", "Worker"]
