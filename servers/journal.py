"""An SQLite file that many tasks of one event loop write to, many changes to a commit.

A change is on disk when its ``await`` returns: it survives the end of this process. With ``full``
it also survives a power failure. Several processes may have the same file open.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from servers.commits import Commits

Sync = Literal["normal", "full"]
Change = Callable[[sqlite3.Connection], Any]

LOCKED_S = 60.0
"""How long another process may hold the file."""


class Journal:
    """One connection in a thread of its own; results come back to the loop that asked."""

    def __init__(self, path: Path, schema: str, sync: Sync = "normal") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = _connect(path, schema, sync)
        self._commits = Commits(path.stem, self._transaction)

    async def run(self, change: Change) -> Any:
        """What ``change`` returns, once it is committed; what it raises undoes it alone."""
        return await self._commits.run(change)

    async def close(self) -> None:
        """Finish what was asked for and let the file go."""
        await self._commits.close()
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


def _connect(path: Path, schema: str, sync: Sync) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute("PRAGMA cache_size = -8000")  # KiB
    connection.executescript(schema)
    return connection
