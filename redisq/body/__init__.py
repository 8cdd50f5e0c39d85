"""What a message holds: how it is encoded, and the JSON Schema that it may have to fit.

Imports: errors, model, runtime.
"""
