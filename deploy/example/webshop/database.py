"""The shop's tables, in SQLite: who has paid, what has left the house."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (number TEXT PRIMARY KEY, amount TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shipments (number TEXT PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
"""


class Database:
    """One connection for all threads of a process, one after the other."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit when the block ends, or roll all of it back."""
        with self._lock, self._connection:
            yield self._connection


@contextmanager
def opened() -> Iterator[Database]:
    """Open the database that SHOP_DATABASE names, for as long as the block lasts."""
    path = os.environ.get("SHOP_DATABASE", "shop.db")
    with closing(sqlite3.connect(path, timeout=30, check_same_thread=False)) as connection:
        connection.executescript(SCHEMA)
        yield Database(connection)
