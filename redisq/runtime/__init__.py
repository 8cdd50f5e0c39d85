"""The process that redisq runs in: signals and forks, event loops, logs, private files, optional packages; and tables of states.

Imports: errors.
"""
