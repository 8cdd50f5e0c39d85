"""What fits redisq into frameworks, each of which is imported here alone. Nothing of the product imports it.

Imports: async_client, client, errors, gateway, model, settings, store, worker.
"""
