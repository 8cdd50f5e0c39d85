"""The commands, a module for each group of them.

Beside it: completion, documents, logs, modules, options, output, processes, streams, tables.
"""
