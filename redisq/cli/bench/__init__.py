"""`redisq bench`: how fast redisq is here.

Beside it: logs, options, output, tables.
"""
