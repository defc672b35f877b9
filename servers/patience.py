"""One timer for all that wait equally long, as a timer each would cost more than the waiting."""

import asyncio
from collections import deque
from typing import Protocol

ROOM = 1000
"""So many are kept beside those that wait."""


class Waiting(Protocol):
    """What waits."""

    @property
    def settled(self) -> bool:
        """It has been answered, or has given up."""

    def late(self) -> None:
        """Its time is over."""


class Patience:
    """Tells each that waits, when it has waited for ``limit_s``; use in one event loop alone."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting: deque[tuple[float, Waiting]] = deque()
        """The first to come is the first whose time is over."""
        self._room = ROOM
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many are kept: those that wait, and some that do no more."""
        return len(self._waiting)

    def begin(self, waiting: Waiting) -> None:
        """From now on."""
        if len(self._waiting) > self._room:
            # One that hangs would keep all that came after it.
            self._waiting = deque(each for each in self._waiting if not each[1].settled)
            self._room = 2 * len(self._waiting) + ROOM
        each = self._waiting
        while each and each[0][1].settled:
            each.popleft()
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        each.append((loop.time() + self._limit_s, waiting))
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        each = self._waiting
        # The loop's time has whole milliseconds, and a timer may come early by a part of one.
        now_s = loop.time() + 0.001
        while each and (each[0][1].settled or each[0][0] <= now_s):
            waiting = each.popleft()[1]
            if not waiting.settled:
                waiting.late()
        if each and self._timer is None:
            self._timer = loop.call_later(max(0.001, each[0][0] - loop.time()), self._look, loop)
