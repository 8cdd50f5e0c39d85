"""How a queue lies in Redis: keys, scripts, the calls that run these and how their replies are read. Pure.

Imports: body, errors, model, tokens.
"""
