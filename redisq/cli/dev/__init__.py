"""`redisq dev`: a server, a gateway, and workers that start again when their code changes.

Beside it: commands, modules, options, output, processes, streams, tables.
"""
