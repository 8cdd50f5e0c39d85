"""The tests. What they need beside pip they start themselves; each leaves nothing behind.

    unit/        pure parts, without a server: layers, settings, tokens, codec, headers of scripts
    scripts/     each Lua script on real servers and on fakeredis: what it writes, refuses, survives
    contract/    the clients and the worker, for threads and asyncio alike, on every server
    gateway/     HTTP: routes, rights, limits, the server on the wire
    system/      programs: the command line, signals, forks, files, the README and the guide block by block
    delivery/    promises under faults: deaths, stalls, lost replies, full memory, rolling restarts
    chaos/       all at once, after a seeded schedule, with a checker; planted bugs have to be found
    browser/     the page in Chromium
    benchmarks/  how fast, beside others; the budget of commands and bytes
    mutants.py   do the scripts' tests notice when a script is wrong

One test: `.venv/bin/python -m pytest tests/scripts/test_queue.py -k repeat`. `make test` leaves out what only repeats
costly cases (marker `full`, see selection.py); `make test-all` runs everything.
"""
