"""Calls from any front end, put before the model in the order they came, several at a time.

A batch is what has queued up while the model was busy. With a delay allowed, it waits for more only
as long as it is smaller than the last one was, so that a caller alone never waits.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol


@dataclass(frozen=True)
class Policy:
    """How calls are put together, and how many may wait for how long."""

    max_batch: int = 32
    max_delay_s: float = 0.0
    max_waiting: int = 1000
    timeout_s: float = 60.0


class Overloaded(Exception):
    """As many calls wait already as may."""


class TimedOut(Exception):
    """No answer in time."""


class Ticket:
    """One call: what is wanted, and what came of it."""

    __slots__ = ("answer", "arrived_s", "given_up", "queue_s", "sink", "waiter", "wanted")

    def __init__(self, wanted: Any, sink: "Sink") -> None:
        self.wanted = wanted
        self.sink = sink
        self.arrived_s = time.perf_counter()
        self.queue_s = 0.0
        self.given_up = False
        self.answer: Any = None
        self.waiter: Any = None


class Sink(Protocol):
    """Takes answered tickets to whoever waits for them; called in the thread of the model."""

    def deliver(self, tickets: list[Ticket]) -> None: ...


class Server(Protocol):
    """What stands behind the queue."""

    def prepare(self, tickets: list[Ticket]) -> Any:
        """What can be done for a batch before the model is free."""

    def finish(self, prepared: Any) -> Iterable[list[Ticket]]:
        """The tickets in their order, answered, as soon as they are; never raises."""


class Batcher:
    """Feeds one `Server` from a queue; any thread may submit."""

    def __init__(self, server: Server, policy: Policy, ahead: bool = False) -> None:
        self._server = server
        self._policy = policy
        self._ahead = ahead
        self._queue: SimpleQueue[list[Ticket] | None] = SimpleQueue()
        self._ready: deque[Ticket] = deque()  # taken from the queue, by the one thread that gathers
        self._prepared: SimpleQueue[Any] = SimpleQueue()
        self._room = threading.Semaphore(1)  # one batch prepared beyond the one at the model
        self._lock = threading.Lock()
        self._waiting = 0
        self._expected = 1

    @property
    def timeout_s(self) -> float:
        return self._policy.timeout_s

    @property
    def max_batch(self) -> int:
        """Most calls that are put together."""
        return self._policy.max_batch

    @property
    def waiting(self) -> int:
        """Calls that are not answered yet."""
        return self._waiting

    def start(self, model_thread: Executor) -> None:
        """Serve until `stop`, with the model in ``model_thread`` alone."""
        if self._ahead:
            threading.Thread(target=self._feed, name="feeder", daemon=True).start()
            model_thread.submit(self._finish_prepared)
        else:
            model_thread.submit(self._serve)

    def stop(self) -> None:
        """Answer what waits, then leave the thread."""
        self._queue.put(None)

    def submit(self, ticket: Ticket) -> None:
        """Put a call into the queue; Overloaded when it is full."""
        self.admit()
        self._queue.put([ticket])

    def submit_admitted(self, tickets: list[Ticket]) -> None:
        """Put calls into the queue, each admitted before: what waits for them is woken once."""
        self._queue.put(tickets)

    def admit(self) -> None:
        """Make room for one call; Overloaded when there is none."""
        with self._lock:
            if self._waiting >= self._policy.max_waiting:
                raise Overloaded(
                    f"{self._waiting} requests are waiting already. Send fewer at once."
                )
            self._waiting += 1

    def _serve(self) -> None:
        while batch := self._gathered():
            self._deliver(self._server.finish(self._server.prepare(batch)))

    def _feed(self) -> None:
        while batch := self._gathered():
            self._room.acquire()
            self._prepared.put(self._server.prepare(batch))
        self._prepared.put(None)

    def _finish_prepared(self) -> None:
        while (prepared := self._prepared.get()) is not None:
            self._room.release()  # the next one is prepared while the model works on this one
            self._deliver(self._server.finish(prepared))

    def _gathered(self) -> list[Ticket]:
        """The next batch, in the order of arrival; empty when stopped."""
        batch: list[Ticket] = []
        limit_s = 0.0
        while len(batch) < self._policy.max_batch:
            if self._ready:
                ticket = self._ready.popleft()
            elif batch and self._queue.empty():
                if len(batch) >= self._expected:
                    break
                limit_s = limit_s or time.perf_counter() + self._policy.max_delay_s
                if not self._next(limit_s - time.perf_counter()):
                    break
                continue
            else:
                if not self._taken(self._queue.get()):
                    break
                continue
            if ticket.given_up:
                self._forget(1)
            else:
                batch.append(ticket)
        self._expected = max(1, len(batch))
        return batch

    def _next(self, wait_s: float) -> bool:
        """Whether more has come within ``wait_s``."""
        if wait_s <= 0:
            return False
        try:
            return self._taken(self._queue.get(timeout=wait_s))
        except Empty:
            return False

    def _taken(self, tickets: list[Ticket] | None) -> bool:
        if tickets is None:
            self._queue.put(None)  # for the next time; this batch is still served
            return False
        self._ready.extend(tickets)
        return True

    def _deliver(self, answered: Iterable[list[Ticket]]) -> None:
        for tickets in answered:
            self._forget(len(tickets))
            sinks: dict[int, list[Ticket]] = {}
            for ticket in tickets:
                sinks.setdefault(id(ticket.sink), []).append(ticket)
            for group in sinks.values():
                group[0].sink.deliver(group)

    def _forget(self, count: int) -> None:
        with self._lock:
            self._waiting -= count


class ThreadSink:
    """For callers that have a thread of their own to wait in."""

    def deliver(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            ticket.waiter.release()

    def call(self, batcher: Batcher, wanted: Any) -> Any:
        """The answer; Overloaded or TimedOut when there is none."""
        ticket = Ticket(wanted, self)
        ticket.waiter = threading.Lock()
        ticket.waiter.acquire()
        batcher.submit(ticket)
        if not ticket.waiter.acquire(timeout=batcher.timeout_s):
            ticket.given_up = True
            raise TimedOut(timeout_text(batcher.timeout_s))
        return ticket.answer


def timeout_text(timeout_s: float) -> str:
    return f"There was no answer within {timeout_s:g} s. Send fewer at once, or allow more time."


def quiet(call: Callable[..., Any], *arguments: Any) -> None:
    """Call, and let go what a receiver that is gone raises: nobody is left to be told."""
    try:
        call(*arguments)
    except RuntimeError:
        return
