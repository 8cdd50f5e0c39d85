"""The example of an inbox: an effect happens once, however often its message is delivered."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from redisq import RedisQ
from tests.system.conftest import Crew, eventually

EXAMPLE = Path(__file__).parents[2] / "deploy" / "example"
#: It does its work, and dies or fails before anyone knows of it.
UNRELIABLE = """
import os
import inbox

deposit = inbox.worker._handlers.pop("deposits").function

@inbox.worker.handler("deposits", concurrency=4, max_attempts=20, backoff_base=0.05)
def unreliable(delivery):
    answer = deposit(delivery)
    if delivery.attempt == 1 and delivery.request["amount"] % 5 == 0:
        os.kill(os.getpid(), 9)
    if delivery.attempt < 3:
        raise ConnectionError("gone before the answer")
    return answer

worker = inbox.worker
"""


def test_each_deposit_counts_once(make_crew: Callable[..., Crew], producer: RedisQ, tmp_path: Path) -> None:
    crew = make_crew(lease=1)
    (tmp_path / "unreliable.py").write_text(UNRELIABLE)
    paths = os.pathsep.join([str(EXAMPLE), str(tmp_path), crew.environment()["PYTHONPATH"]])
    environment = crew.environment(SHOP_DATABASE=str(tmp_path / "shop.db"), PYTHONPATH=paths)
    amounts = range(1, 21)
    ids = producer.queue_messages("deposits", [{"name": "ada", "amount": amount} for amount in amounts])

    def all_finished() -> bool:
        if crew.processes[-1].poll() is not None:  # a supervisor's work
            crew.processes.append(subprocess.Popen(command, env=environment, cwd=tmp_path))
        return all(producer.get_message("deposits", id).finished for id in ids)

    command = [sys.executable, "-m", "redisq", "worker", "unreliable:worker"]
    crew.processes.append(subprocess.Popen(command, env=environment, cwd=tmp_path))
    eventually(all_finished, "the end of all deposits")
    crew.processes[-1].send_signal(signal.SIGTERM)
    messages = [producer.get_message("deposits", id) for id in ids]
    assert {message.status for message in messages} == {"COMPLETE"}
    assert min(message.attempts for message in messages) > 1
    assert {message.result["new"] for message in messages} == {False}  # the effect was an earlier delivery's
    assert len(crew.processes) > 2
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        assert database.execute("SELECT balance FROM account").fetchall() == [(sum(amounts),)]
        assert database.execute("SELECT count(*) FROM inbox").fetchall() == [(len(ids),)]
