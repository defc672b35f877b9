"""One time limit for many things, with a single timer: what came first expires first."""

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import gevent

Item = TypeVar("Item")


class Deadlines(Generic[Item]):
    """Calls ``expired`` with each item that is not discarded within ``limit_s`` of being added."""

    def __init__(self, limit_s: float, expired: Callable[[Item], None]) -> None:
        self._limit_s = limit_s
        self._expired = expired
        self._ends: dict[Item, float] = {}
        self._loop = gevent.get_hub().loop
        self._timer = self._loop.timer(0)
        self._resting = False

    def add(self, item: Item) -> None:
        self._ends[item] = time.monotonic() + self._limit_s
        # The timer is not moved when an item goes: it rings in vain at most once per limit.
        if not self._resting:
            self._rest(self._limit_s)

    def discard(self, item: Item) -> None:
        self._ends.pop(item, None)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._ends)

    def close(self) -> None:
        self._timer.close()
        self._ends.clear()

    def _rest(self, wait_s: float) -> None:
        self._resting = True
        self._timer.close()
        self._timer = self._loop.timer(wait_s)
        self._timer.start(self._ring, update=True)

    def _ring(self) -> None:
        self._timer.stop()
        self._resting = False
        while self._ends:
            item, end_s = next(iter(self._ends.items()))
            wait_s = end_s - time.monotonic()
            if wait_s > 0:
                self._rest(wait_s)
                return
            del self._ends[item]
            self._expired(item)
