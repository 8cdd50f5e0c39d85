"""One server: connections, faults, when to try again. Only here redis-py is used.

Imports: embedded, errors, runtime, settings, store, urls.
"""
