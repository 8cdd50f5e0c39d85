"""The API, a module for each kind of path.

Beside it: access, addresses, context, metrics, middleware, requests, server, work.
"""
