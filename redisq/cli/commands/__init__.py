"""The commands, a module for each group of them.

Beside it: completion, documents, lifeline, logs, modules, options, output, processes, streams, tables.
"""
