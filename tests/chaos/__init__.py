"""Chaos: real servers, workers and clients as processes, everything around them broken by a schedule, all of it judged.

    python -m tests.chaos               50,000 messages, 28 faults; --help tells the rest, `make chaos` runs a million
    pytest -m chaos tests/chaos         the same as a test, and the model test

    schedule, messages                  what will happen, from a seed alone
    worker, client, part                the processes, which write down what they see (history)
    processes, proxy, nemesis, failpoints of redisq    how it is broken, which is written down, too
    audit                               what is there in the end
    checker, report                     what that means
    round, __main__                     one round after another; each begins with nothing, and ends healed and drained
    model, test_model                   another way to the same end: one queue, step by step, beside a model of it

When something is wrong, the round's folder in build/chaos keeps all: `grep -h <id> *.log | sort -n` tells the story of
a message, `faults.jsonl` what befell whom, `*.out` what the processes said; `--replay schedule.json` does it again.
"""
