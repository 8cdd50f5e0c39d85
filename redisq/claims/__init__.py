"""Taking messages so that nobody is robbed of one, for workers and gateways.

Imports: errors, link, model, runtime, store.
"""
