"""Delivery at scale, under faults: every message accepted is delivered, once unless there is a cause, and never lost.

Each test has a full count; `--scale` says how much of it is run (`make test-delivery`: all). What they measure is shown
at the end of the run and never asserted. `catalogue.py` lists which fault is shown by which test.
"""
