"""How a queue lies in Redis: keys, scripts, the calls that run these and how their replies are read. Pure.

Imports: body, errors, model, tokens.
"""

from redisq.store import applications, audit, dead_letters, deliveries, listing, messages, queues, rates

__all__ = ["applications", "audit", "dead_letters", "deliveries", "listing", "messages", "queues", "rates"]
