"""Changes that many tasks of one event loop ask for, made in one thread, many to a commit.

All that are asked for while a commit is under way share the next one: a commit that waits for the
disk costs the same with a hundred changes as with one.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

Transaction = TypeVar("Transaction")
Results = list[tuple[asyncio.Future[Any], Any, Exception | None]]

BATCH = 512
"""Most changes in one commit, so that the first of them does not wait long."""


class Commits(Generic[Transaction]):
    """Makes changes in transactions that ``begin`` opens: left in peace they commit, else undo."""

    def __init__(self, name: str, begin: Callable[[], AbstractContextManager[Transaction]]) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[_Asked[Transaction] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[Transaction], Any]) -> Any:
        """What ``change`` returns, once it is committed; what it raises undoes it alone."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.put((change, answer))
        return await answer

    async def close(self) -> None:
        """Finish what was asked for."""
        self._asked.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while True:
            batch = self._batch()
            asked = [each for each in batch if each is not None]
            if asked:
                done = self._together(asked)
                if done is None:  # one of them cannot be done: each by itself tells which
                    done = [self._alone(each) for each in asked]
                self._loop.call_soon_threadsafe(_hand_over, done)
            if len(asked) < len(batch):
                return

    def _batch(self) -> "list[_Asked[Transaction] | None]":
        batch = [self._asked.get()]
        while batch[-1] is not None and len(batch) < BATCH:
            try:
                batch.append(self._asked.get_nowait())
            except queue.Empty:
                break
        return batch

    def _together(self, asked: "list[_Asked[Transaction]]") -> Results | None:
        try:
            with self._begin() as transaction:
                return [(answer, change(transaction), None) for change, answer in asked]
        except Exception:  # noqa: BLE001 - whatever it was, it comes again in `_alone`
            return None

    def _alone(
        self, asked: "_Asked[Transaction]"
    ) -> tuple[asyncio.Future[Any], Any, Exception | None]:
        change, answer = asked
        try:
            with self._begin() as transaction:
                result = change(transaction)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            return answer, None, error
        return answer, result, None


_Asked = tuple[Callable[[Transaction], Any], asyncio.Future[Any]]


def _hand_over(done: Results) -> None:
    for answer, result, error in done:
        if answer.done():  # whoever asked has been cancelled
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
