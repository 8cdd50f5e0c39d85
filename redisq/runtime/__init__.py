"""The process that redisq runs in: signals and forks, event loops, logs, private files, optional packages.

And tables of states.

Imports: errors.
"""
