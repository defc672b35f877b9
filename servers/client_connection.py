"""One connection to a container, from our side: requests leave, answers come in their order."""

import asyncio
import io
import time
from collections import deque
from functools import lru_cache
from typing import cast

import httptools

from servers.exchange import SMALL_BYTES

MAX_HEADER_BYTES = 64 * 1024
MAX_UNREAD_BYTES = 2**20
"""A streamed answer is read no faster than its reader takes it, beyond this."""


@lru_cache(256)
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


class Broken(Exception):
    """The connection ended too soon; ``sent``: after the request; ``status``: 0 without a head."""

    def __init__(self, reason: str, sent: bool = True, status: int = 0) -> None:
        super().__init__(reason)
        self.sent = sent
        self.status = status


class Received:
    """What comes back to one request, gathered until it is complete."""

    __slots__ = ("_large", "_limit", "chunks", "headers", "settled", "size", "status")

    def __init__(self, limit: int | None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.size = 0
        self.settled = False
        """It is complete, or has failed: nobody waits for it any more."""
        self._limit = limit
        self._large: io.BytesIO | None = None
        """Takes the place of the chunks: they would be held twice when they are joined."""

    def succeeded(self) -> None:
        """All of it is there, or more than is wanted."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """It will not come."""
        raise NotImplementedError

    def late(self) -> None:
        self.fail(TimeoutError())

    def head(self) -> None:
        """Status and headers are known."""

    def body(self) -> bytes:
        """All that has come, cut off at one byte more than the limit."""
        if self._large is not None:
            whole = self._large.getvalue()  # not copied
        else:
            whole = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        return whole[: self._limit + 1] if self._limit is not None else whole

    @property
    def enough(self) -> bool:
        """More has come than is wanted."""
        return self._limit is not None and self.size > self._limit

    def received(self, data: bytes) -> None:
        if self.settled:  # given up, or enough
            return
        self.size += len(data)
        if self._large is None and self.size > SMALL_BYTES and self._limit is not None:
            self._large = io.BytesIO(b"".join(self.chunks))
            self._large.seek(0, io.SEEK_END)
            self.chunks.clear()
        if self._large is None:
            self.chunks.append(data)
        else:
            self._large.write(data)
        if self.enough:
            self.complete()

    def complete(self) -> None:
        if not self.settled:
            self.settled = True
            self.succeeded()

    def fail(self, error: Exception) -> None:
        if not self.settled:
            self.settled = True
            self.failed(error)


class Awaited(Received):
    """What a task waits for."""

    __slots__ = ("done",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def succeeded(self) -> None:
        if not self.done.done():  # its task may have been cancelled
            self.done.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Streamed(Received):
    """What comes back to one request, taken piece by piece."""

    def __init__(self, connection: "ClientConnection") -> None:
        super().__init__(None)
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._ended = False

    async def next(self) -> bytes | None:
        """The next piece; None at the end."""
        while not self.chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunk = self.chunks.pop(0)
        self.size -= len(chunk)
        if self.size <= MAX_UNREAD_BYTES:
            self._connection.read_on(True)
        return chunk

    def head(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def received(self, data: bytes) -> None:
        super().received(data)
        if self.size > MAX_UNREAD_BYTES:
            self._connection.read_on(False)
        self._wake()

    def complete(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        if not self.begun.done():
            self.begun.set_exception(error)
        elif not self._ended and self._error is None:
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ClientConnection(asyncio.Protocol):
    """One connection; the methods named ``on_…`` are called by the parser.

    Its owner gives it one request at a time, or several where the container says it answers so.
    """

    def __init__(self, register: set["ClientConnection"]) -> None:
        self.idle_since_s = 0.0
        self.usable = False
        self._register = register
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: deque[Received] = deque()
        """Requests that have left, the first of them being answered."""
        self._leaving: list[bytes] = []
        """What leaves at the end of this turn of the loop."""
        self.retired = False
        """It takes no more requests, and ends with those that it has."""
        self._header_bytes = 0
        self._begun = False
        self._until_closed = False

    @property
    def waiting(self) -> int:
        """Requests without their whole answer."""
        return len(self._waiting)

    def begin(self, request: list[bytes], received: Received) -> None:
        """Send a request; ``received`` takes what comes back."""
        if self._taken(received):
            assert self._transport is not None
            for part in request:
                self._transport.write(part)

    def follow(self, request: list[bytes], received: Received) -> None:
        """The same behind others; those of one turn of the loop leave in one write."""
        if self._taken(received):
            if not self._leaving:
                asyncio.get_running_loop().call_soon(self._flush)
            self._leaving += request

    def retire(self) -> None:
        """Take what it is waiting for and end; at once where nobody waits any more."""
        self.retired = True
        if all(each.settled for each in self._waiting):
            self.abort()

    def fail(self, error: Exception) -> None:
        """End the connection; the requests under way fail with ``error``."""
        waiting = list(self._waiting)
        self.abort()
        for each in waiting:
            each.fail(error)

    def abort(self) -> None:
        """End the connection at once."""
        self.usable = False
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    def read_on(self, on: bool) -> None:
        """Take more from the socket, or no more for now."""
        if self._transport is None or self._transport.is_closing():
            return
        if on and not self._transport.is_reading():
            self._transport.resume_reading()
        elif not on and self._transport.is_reading():
            self._transport.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._register.add(self)
        self.usable = True

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._register.discard(self)
        waiting, self._waiting = self._waiting, deque()
        if waiting and self._begun and self._until_closed and error is None:
            waiting.popleft().complete()
        reason = str(error) if error else "it closed the connection"
        for each in waiting:
            each.fail(Broken(reason, status=each.status))

    def data_received(self, data: bytes) -> None:
        if not self._waiting:
            self.abort()  # nobody has asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(Broken(f"the answer is not HTTP/1.1: {error}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if not self._waiting or self._begun:  # trailers
            return
        if self._header_bytes > MAX_HEADER_BYTES:
            self.fail(Broken(f"the answer's headers exceed {MAX_HEADER_BYTES} bytes"))
            return
        self._waiting[0].headers[_lower(name)] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if not self._waiting:
            return
        status = self._parser.get_status_code()
        if status < 200:
            return  # 100 Continue and the like: the answer is still to come
        self._begun = True
        received = self._waiting[0]
        self._until_closed = not ({"content-length", "transfer-encoding"} & received.headers.keys())
        received.status = status
        received.head()

    def on_body(self, data: bytes) -> None:
        if not self._waiting:
            return
        received = self._waiting[0]
        received.received(data)
        if received.enough:
            if len(self._waiting) == 1:
                self.abort()  # enough has come to know that it is too much
            else:
                self.retired = True  # the rest is let go, for the sake of those behind it

    def on_message_complete(self) -> None:
        if not self._waiting:
            return
        if not self._begun:
            self._waiting[0].headers.clear()
            return
        received = self._waiting.popleft()
        self._begun, self._header_bytes = False, 0
        self.usable = self._parser.should_keep_alive()
        self.idle_since_s = time.monotonic()
        received.complete()
        if self._waiting and not self.usable:
            # Who says that it closes does nothing of what is behind (RFC 9112, 9.6).
            self.fail(Broken("it closes the connection", sent=False))
        elif self.retired and all(each.settled for each in self._waiting):
            self.abort()

    def _taken(self, received: Received) -> bool:
        if not self.usable:  # it has ended since it was opened, and nobody would say so again
            received.fail(Broken("it closed the connection", sent=False))
            return False
        self._waiting.append(received)
        return True

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, []
        if self.usable and self._transport is not None:
            self._transport.write(b"".join(leaving))
