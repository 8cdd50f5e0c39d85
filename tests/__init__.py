"""The tests. What they need beside pip they start themselves; each leaves nothing behind.

    unit/        pure parts, without a server: layers, settings, tokens, codec, headers of scripts
    scripts/     each Lua script on real servers and on fakeredis: what it writes, refuses, survives
    contract/    the clients and the worker, for threads and asyncio alike, on every server
    testing/     what is for the tests of others: queues in memory, virtual time, the plugin for pytest
    gateway/     HTTP: routes, rights, limits, the server on the wire
    system/      programs: the command line, signals, forks, files, the README and the guide block by block
    integrations/ frameworks: Django's tasks, FastAPI, Flask
    delivery/    promises under faults: deaths, stalls, lost replies, full memory, rolling restarts
    chaos/       all at once, after a seeded schedule, with a checker; planted bugs have to be found
    browser/     the page in Chromium
    benchmarks/  how fast, beside others; the budget of commands and bytes
    support/     no tests: what they share, such as servers, proxies, workers, gateways
    mutants.py   do the scripts' tests notice when a script is wrong

One test, one folder, and what only a run of its own can show:

    .venv/bin/python -m pytest tests/scripts/test_queue.py -k repeat
    .venv/bin/python -m pytest -n 2 tests/delivery
    .venv/bin/python -m pytest -m chaos tests/chaos     (-m browser, -m packaging: those that want the machine prepared)
    .venv/bin/python -m tests.chaos --help              (tests.benchmarks, tests.mutants likewise; and `make help`)

`make test` leaves out what only repeats costly cases (marker `full`, see support/selection.py); `make test-all` runs
everything.
"""
