"""Lines passed on at once to all who listen."""

import asyncio

MAX_BEHIND = 100_000
"""A listener that is so many lines behind is dropped, and its connection with it."""


class Subscribers:
    """Listeners come and go; each hears what is told while it listens."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._closed = False

    def listen(self) -> "asyncio.Queue[bytes | None]":
        """A queue of lines; None is the end."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        if self._closed:
            queue.put_nowait(None)
        else:
            self._queues.add(queue)
        return queue

    def leave(self, queue: "asyncio.Queue[bytes | None]") -> None:
        self._queues.discard(queue)

    def tell(self, line: bytes) -> None:
        for queue in list(self._queues):
            if queue.qsize() >= MAX_BEHIND:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(line)

    def close(self) -> None:
        """End every listener's queue, also of those who come later."""
        self._closed = True
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()
