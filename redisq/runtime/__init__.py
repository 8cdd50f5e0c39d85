"""The process that redisq runs in: signals and forks, event loops, logs, private files, optional packages.

Imports: errors.
"""
