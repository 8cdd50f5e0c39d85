"""The operations of the API, a module for each kind of path.

Beside it: access, context, document, middleware, operation, requests, server, work.
"""
