"""What can be asked, as flows of calls and pauses that a link runs. Pure.

Imports: body, errors, link, model, settings, store, tokens.
"""
