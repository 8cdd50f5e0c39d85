"""The HTTP server: uvicorn with a limit on everything. It knows nothing of queues.

Beside it: addresses, settings, shutdown.
"""
