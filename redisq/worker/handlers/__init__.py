"""Handlers: which callables can be one, what they run in, what becomes of all that they return or raise."""
