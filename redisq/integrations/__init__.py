"""What fits redisq into frameworks, each of which is imported here alone. Nothing of the product imports it.

Imports: client, errors, model, settings, store, worker.
"""
