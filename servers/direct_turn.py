"""A request to an instance that can be asked at once: no task and no future stand in between.

Most requests to a real-time endpoint are such: their instance is a container that answers requests
behind one another, on a connection that is open. What goes wrong is left to a coroutine, the same
that asks where one has to wait.
"""

import time
from collections.abc import Coroutine
from typing import Any, Protocol

from servers.branch import Branch, Turn
from servers.client_connection import ClientConnection, Received
from servers.endpoint import Invocation, Served
from servers.metrics import Outcome
from servers.replicas import Slot
from servers.wire import Answer


class Waiting(Protocol):
    """Who has asked; told one of these, once."""

    def served(self, served: Served) -> None: ...
    def failed(self, error: Exception) -> None: ...
    def later(self, answering: Coroutine[Any, Any, Served]) -> None:
        """It takes a task to know."""


class Desk(Protocol):
    """The endpoint."""

    payload_max_bytes: int

    def conclude(self, branch: Branch, turn: Turn[Answer], outcome: Outcome) -> Served:
        """What comes of an instance's answer; ApiError for one that may not reach the caller."""

    def recover(self, turn: "DirectTurn", error: Exception) -> Coroutine[Any, Any, Served]:
        """What comes of it when the instance did not answer."""


class DirectTurn(Received):
    """Sent by `begin`; its connection tells what came back."""

    __slots__ = (
        "_asked_s",
        "_connection",
        "_desk",
        "_waiting",
        "branch",
        "invocation",
        "metered",
        "slot",
    )
    slot: Slot

    def __init__(
        self, desk: Desk, branch: Branch, invocation: Invocation, waiting: Waiting
    ) -> None:
        super().__init__(desk.payload_max_bytes)
        self.branch = branch
        self.invocation = invocation
        self.metered = branch.metered(invocation.began_s)
        self._desk = desk
        self._waiting = waiting
        self._asked_s = 0.0
        self._connection: ClientConnection | None = None

    def begin(self, slot: Slot) -> bool:
        """Ask the instance there; false, and nothing is done, where one would have to wait."""
        asked = self.invocation
        self._connection = slot.replica.begin(asked.body, asked.headers, self)
        if self._connection is None:
            return False
        self.slot = slot
        self.metered.begin()  # what was given to the connection leaves after this turn of the loop
        self._asked_s = time.perf_counter()
        return True

    def succeeded(self) -> None:
        took_s = time.perf_counter() - self._asked_s
        turn = Turn(self.slot, Answer(self.status, self.body(), self.headers), took_s)
        try:
            with self.metered as outcome:
                served = self._desk.conclude(self.branch, turn, outcome)
        except Exception as error:  # noqa: BLE001 - whoever waits words and logs it
            self._waiting.failed(error)
        else:
            self._waiting.served(served)

    def failed(self, error: Exception) -> None:
        if self._connection is not None:
            # What is behind it may still be answered; what comes goes elsewhere.
            self._connection.retire()
        self._waiting.later(self._desk.recover(self, error))
