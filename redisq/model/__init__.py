"""The nouns: messages, deliveries, queues, lists, findings. Values without I/O.

Imports: errors.
"""
