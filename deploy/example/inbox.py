"""Effects that happen once: the handler notes the message's id in the transaction of its effect.

A message may be delivered more than once: its worker may die after the effect and before Redis knows. Whoever gets it
then finds its id in the inbox and does nothing. The table grows by a row for each message; a row may go when its
message cannot come again: when `redisq get` does not find it any more.

    redisq worker inbox:worker
"""

import os
import sqlite3
from contextlib import closing

from redisq import Delivery, Worker

DATABASE = os.environ.get("SHOP_DATABASE", "shop.db")
SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (queue TEXT, id TEXT, PRIMARY KEY (queue, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, balance INTEGER NOT NULL);
"""

worker = Worker()


def connect() -> sqlite3.Connection:
    """Open the database, which waits for other writers up to half a minute."""
    connection = sqlite3.connect(DATABASE, timeout=30)
    connection.executescript(SCHEMA)
    return connection


@worker.handler("deposits", concurrency=4)
def deposit(delivery: Delivery) -> dict[str, bool]:
    """Put an amount on an account, once."""
    with closing(connect()) as database, database:  # commits when the block ends, or rolls all of it back
        # In lower case: in a Turkish locale Python's sqlite3 takes INSERT for no change, and begins no transaction.
        new = database.execute("insert OR IGNORE INTO inbox VALUES (?, ?)", (delivery.queue, delivery.id)).rowcount == 1
        if new:
            database.execute(
                "insert INTO account VALUES (:name, :amount) "
                "ON CONFLICT (name) DO UPDATE SET balance = balance + :amount",
                delivery.request,
            )
    return {"new": new}
