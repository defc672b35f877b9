"""An SQLite file that many tasks of one event loop write to, many changes to a commit.

All changes that are asked for while a commit is under way share the next one. A change is on disk
when its ``await`` returns: it survives the end of this process. With ``full`` it also survives a
power failure. Several processes may have the same file open.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

Sync = Literal["normal", "full"]
Change = Callable[[sqlite3.Connection], Any]

BATCH = 512
"""Most changes in one commit, so that the first of them does not wait long."""
LOCKED_S = 60.0
"""How long another process may hold the file."""


class Journal:
    """One connection in a thread of its own; results come back to the loop that asked."""

    def __init__(self, path: Path, schema: str, sync: Sync = "normal") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[tuple[Change, asyncio.Future[Any]] | None]
        self._asked = queue.SimpleQueue()
        self._connection = _connect(path, schema, sync)
        self._thread = threading.Thread(target=self._work, name=path.stem, daemon=True)
        self._thread.start()

    async def run(self, change: Change) -> Any:
        """What ``change`` returns, once it is committed; what it raises undoes it alone."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.put((change, answer))
        return await answer

    async def close(self) -> None:
        """Finish what was asked for and let the file go."""
        self._asked.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while True:
            batch = self._batch()
            asked = [each for each in batch if each is not None]
            if asked:
                done = self._together(asked)
                if done is None:  # one of them cannot be done: each by itself tells which
                    done = [result for each in asked for result in self._alone(each)]
                self._loop.call_soon_threadsafe(_hand_over, done)
            if len(asked) < len(batch):
                self._connection.close()
                return

    def _batch(self) -> list[tuple[Change, asyncio.Future[Any]] | None]:
        batch = [self._asked.get()]
        while batch[-1] is not None and len(batch) < BATCH:
            try:
                batch.append(self._asked.get_nowait())
            except queue.Empty:
                break
        return batch

    def _together(self, asked: list[tuple[Change, asyncio.Future[Any]]]) -> "Results | None":
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            done: Results = [(answer, change(self._connection), None) for change, answer in asked]
            self._connection.execute("COMMIT")
        except Exception:  # noqa: BLE001 - whatever it was, it comes again in `_alone`
            self._undo()
            return None
        return done

    def _alone(self, asked: tuple[Change, asyncio.Future[Any]]) -> "Results":
        change, answer = asked
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            result = change(self._connection)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            self._undo()
            return [(answer, None, error)]
        return [(answer, result, None)]

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


Results = list[tuple[asyncio.Future[Any], Any, Exception | None]]


def _connect(path: Path, schema: str, sync: Sync) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute("PRAGMA cache_size = -8000")  # KiB
    connection.executescript(schema)
    return connection


def _hand_over(done: Results) -> None:
    for answer, result, error in done:
        if answer.done():  # whoever asked has been cancelled
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
