"""What many requests share: claims for workers over HTTP, and long waits.

Beside it: requests.
"""
