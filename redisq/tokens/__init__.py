"""Who may do what: tokens, scopes, applications and the keys that sign them. Pure.

Imports: errors.
"""

from redisq.tokens.token import LEEWAY, MAX_TTL, OPS, Credentials, Grant, inspect, narrow, sign, verify

__all__ = ["LEEWAY", "MAX_TTL", "OPS", "Credentials", "Grant", "inspect", "narrow", "sign", "verify"]
