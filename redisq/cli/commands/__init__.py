"""The commands, a module for each group of them.

Beside it: clients, completion, documents, lifeline, logs, modules, options, output, processes, streams, tables.
"""
