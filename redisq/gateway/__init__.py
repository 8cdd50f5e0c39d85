"""The HTTP gateway: what `redisq serve` runs. It alone holds the password of Redis, so it is the boundary.

Imports: async_client, body, claims, errors, guide, link, model, operations, preload, runtime, settings, store, tokens.
"""
