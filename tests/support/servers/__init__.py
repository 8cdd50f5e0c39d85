"""Servers of a test's own, and proxies before them."""
