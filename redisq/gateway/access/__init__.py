"""Who may do what here, from where, and how much of it.

Beside it: context, middleware, requests, server, settings.
"""
