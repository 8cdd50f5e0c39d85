"""The description of the gateway's API: an OpenAPI document, and a page that shows it.

Beside it: requests, routes, server.
"""

from redisq.gateway.document.pages import routes as routes
