"""How fast redisq is, beside the Python queues that somebody would take instead, and what each message costs.

    python -m tests.benchmarks    measures: see `--help`, `scenarios.py` for what, `figures.py` for how much is enough
    test_budget.py                counts Redis commands and bytes exactly, in the test run; nothing there is timed

Each queue is an adapter in `adapters/`, run by a Python of its own: `driver.py` queues, `handled.py` counts in the
worker.
"""
