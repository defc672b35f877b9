"""Calls of the model from an event loop: one wake of the model for many, and one of the loop."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from servers.batcher import Batcher, Ticket, quiet

Settle = Callable[[Ticket], None]


class LoopSink:
    """Hands calls over once a turn of the loop, and takes their answers once a batch."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._timeout_s = batcher.timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new: list[Ticket] = []
        self._limits: deque[Ticket] = deque()
        """All that wait, the oldest first: as all may wait as long, one timer is enough."""
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, wanted: Any, settle: Settle) -> None:
        """Ask for an answer; Overloaded when too many wait.

        ``settle`` is called in the loop with the ticket: answered, or given up for it was late.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._batcher.admit()
        ticket = Ticket(wanted, self)
        ticket.waiter = settle
        if not self._new:
            loop.call_soon(self._look, 0)
        self._new.append(ticket)
        self._limits.append(ticket)
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._sweep)

    async def call(self, wanted: Any) -> tuple[Any, Ticket]:
        """The answer; Overloaded or TimeoutError when there is none."""
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()

        def settle(ticket: Ticket) -> None:
            if not future.done():
                future.set_result(ticket)

        self.submit(wanted, settle)
        ticket = await future
        if ticket.given_up:
            raise TimeoutError
        return ticket.answer, ticket

    def deliver(self, tickets: list[Ticket]) -> None:
        assert self._loop is not None
        quiet(self._loop.call_soon_threadsafe, self._settle, tickets)

    def _look(self, seen: int) -> None:
        count = len(self._new)
        if seen < count < self._batcher.max_batch:
            assert self._loop is not None
            self._loop.call_soon(self._look, count)
            return
        tickets, self._new = self._new, []
        self._batcher.submit_admitted(tickets)

    def _settle(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            settle, ticket.waiter = ticket.waiter, None
            if settle is not None:
                settle(ticket)
        limits = self._limits
        while limits and limits[0].waiter is None:
            limits.popleft()

    def _sweep(self) -> None:
        limits, oldest_s = self._limits, time.perf_counter() - self._timeout_s
        while limits and (limits[0].waiter is None or limits[0].arrived_s <= oldest_s):
            ticket = limits.popleft()
            settle, ticket.waiter = ticket.waiter, None
            if settle is not None:
                ticket.given_up = True
                settle(ticket)
        self._timer = None
        if limits:
            assert self._loop is not None
            wait_s = max(0.001, limits[0].arrived_s - oldest_s)
            self._timer = self._loop.call_later(wait_s, self._sweep)
