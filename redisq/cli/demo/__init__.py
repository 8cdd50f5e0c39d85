"""`redisq demo`: the main job, on an embedded server.

Beside it: modules, options, output, tables.
"""
