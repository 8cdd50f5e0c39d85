"""Who may do what here, from where, and how much of it.

Beside it: addresses, context, middleware, requests, settings.
"""
