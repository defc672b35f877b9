"""Calls of the model from an event loop: one wake of the model for many, and one of the loop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from servers.batcher import Batcher, Ticket, quiet
from servers.patience import Patience

Settle = Callable[[Ticket], None]


class LoopSink:
    """Hands calls over when the loop has read all that has come, and takes answers once a batch."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._patience = Patience(batcher.timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new: list[LoopTicket] = []

    def submit(self, wanted: Any, settle: Settle) -> "LoopTicket":
        """Ask for an answer; Overloaded when too many wait.

        ``settle`` is called in the loop with the ticket: answered, or given up for it was late.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self._batcher.admit()
        ticket = LoopTicket(wanted, self)
        ticket.waiter = settle
        if not self._new:
            loop.call_soon(self._look, 0)
        self._new.append(ticket)
        return ticket

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
        quiet(self._loop.call_soon_threadsafe, _settle, tickets)

    def _look(self, seen: int) -> None:
        """Hand over, unless more came since the last turn: then there may be still more to read.

        Else a model that is free takes the first of many that came at once, and the others wait.
        """
        count = len(self._new)
        if seen < count < self._batcher.max_batch:
            assert self._loop is not None
            self._loop.call_soon(self._look, count)
            return
        tickets, self._new = self._new, []
        self._patience.begin(_Together(tickets))
        self._batcher.submit_admitted(list(tickets))


class LoopTicket(Ticket):
    """A call whose ``waiter`` is to be called once."""

    __slots__ = ()

    def give_up(self) -> None:
        """Nobody waits for it: it is not computed if that has not begun, nor settled."""
        self.given_up = True
        self.waiter = None


class _Together:
    """Calls that were handed over in one turn, and so wait equally long."""

    def __init__(self, tickets: list[LoopTicket]) -> None:
        self._tickets = tickets

    @property
    def settled(self) -> bool:
        return all(ticket.waiter is None for ticket in self._tickets)

    def late(self) -> None:
        late = [ticket for ticket in self._tickets if ticket.waiter is not None]
        for ticket in late:
            ticket.given_up = True
        _settle(late)


def _settle(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        settle, ticket.waiter = ticket.waiter, None
        if settle is not None:
            settle(ticket)
