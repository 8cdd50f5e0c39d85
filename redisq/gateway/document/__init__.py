"""The description of the gateway's API: an OpenAPI document, and pages that show it and the guide.

Beside it: operation, requests, server.
"""
