"""Workers: one process that claims messages, runs handlers and keeps leases."""

from redisq.worker.delivery import Delivery
from redisq.worker.worker import Worker

__all__ = ["Delivery", "Worker"]
