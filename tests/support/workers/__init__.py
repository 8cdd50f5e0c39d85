"""Processes that work or produce, to be watched and killed."""
