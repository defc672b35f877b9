"""Kept HTTP/1.1 connections to one container: one request at a time on each.

A lean client, because it is on the path of every request: no redirects, cookies or compression.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from typing import cast

import httptools
from msgspec import Struct

from servers.patience import Patience
from servers.wire import Answer

IDLE_S = 1.5
"""An idle connection is not used again after this: common servers close theirs after 2 s."""

MAX_HEADER_BYTES = 64 * 1024
MAX_UNREAD_BYTES = 2**20
"""A streamed answer is read no faster than its reader takes it, beyond this."""

KNOWN_HEADS = 64
KNOWN_LIMITS = 16

SMALL_BYTES = 64 * 1024
"""Up to this size head and body leave in one write."""


class Broken(Exception):
    """The connection ended too soon; ``sent``: after the request; ``status``: 0 without a head."""

    def __init__(self, reason: str, sent: bool = True, status: int = 0) -> None:
        super().__init__(reason)
        self.sent = sent
        self.status = status


class Call(Struct, frozen=True):
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Channel:
    """All connections to the container at ``host:port``."""

    def __init__(self, host: str, port: int, connect_timeout_s: float) -> None:
        self._host = host
        self._port = port
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._closed = False
        self._heads: dict[tuple[object, ...], bytes] = {}
        """Requests without their length, which are much alike."""
        self._patiences: dict[float, Patience] = {}
        """By how long an answer may take; there are few of these."""

    async def ask(self, call: Call, limit: int, timeout_s: float) -> Answer:
        """The whole answer, cut off at one byte more than ``limit``.

        TimeoutError after ``timeout_s``, Broken when the connection ends first.
        """
        connection = await self._connection()
        exchange = _Exchange(limit)
        self._within(timeout_s).begin(exchange)
        connection.begin(self._request(call), exchange)
        try:
            await exchange.done
        except BaseException:
            connection.abort()
            raise
        self.release(connection)
        chunks = exchange.chunks
        body = b"".join(chunks) if len(chunks) != 1 else chunks[0]
        return Answer(exchange.status, body[: limit + 1], exchange.headers)

    async def open(self, call: Call, timeout_s: float) -> "Stream":
        """The answer's head, its body to be read as it comes; the time is that of the whole."""
        connection = await self._connection()
        exchange = _Streamed(connection)
        connection.begin(self._request(call), exchange)
        timer = asyncio.get_running_loop().call_later(timeout_s, connection.fail, TimeoutError())
        try:
            await exchange.begun
        except BaseException:
            timer.cancel()
            connection.abort()
            raise
        return Stream(exchange, connection, timer, self)

    def close(self) -> None:
        """End every connection; what is under way is Broken."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            connection.fail(Broken("the connections were closed"))

    async def _connection(self) -> "_Connection":
        oldest_s = time.monotonic() - IDLE_S
        while self._idle:
            # The one used last: the others grow old, and are closed.
            connection = self._idle.pop()
            if connection.usable and connection.idle_since_s > oldest_s:
                return connection
            connection.abort()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._open), self._host, self._port
                )
        except TimeoutError:
            limit = f"it did not accept a connection within {self._connect_timeout_s:g} s"
            raise Broken(limit, sent=False) from None
        except OSError as error:
            raise Broken(error.strerror or str(error), sent=False) from error
        return connection

    def release(self, connection: "_Connection") -> None:
        """Keep the connection for the next request, if it may be kept."""
        if not connection.usable or self._closed:
            connection.abort()
            return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def _within(self, limit_s: float) -> Patience:
        found = self._patiences.get(limit_s)
        if found is None:
            if len(self._patiences) >= KNOWN_LIMITS:
                self._patiences.clear()  # their timers run on
            found = self._patiences[limit_s] = Patience(limit_s)
        return found

    def _request(self, call: Call) -> list[bytes]:
        known = (call.method, call.path, *call.headers.items())
        begin = self._heads.get(known)
        if begin is None:
            begin = self._head(call)
            if len(self._heads) >= KNOWN_HEADS:
                self._heads.clear()
            self._heads[known] = begin
        head = b"%bcontent-length: %d\r\n\r\n" % (begin, len(call.body))
        if len(call.body) <= SMALL_BYTES:
            return [head + call.body]
        return [head, call.body]

    def _head(self, call: Call) -> bytes:
        lines = [f"{call.method} {call.path} HTTP/1.1", f"host: {self._host}:{self._port}"]
        for name, value in call.headers.items():
            if not value.isprintable():
                raise ValueError(f"the header {name} has characters that cannot be sent")
            lines.append(f"{name}: {value}")
        return ("\r\n".join(lines) + "\r\n").encode("latin-1", "replace")


class Stream:
    """An answer that is being read: ``status`` and ``headers`` are known."""

    def __init__(
        self,
        exchange: "_Streamed",
        connection: "_Connection",
        timer: asyncio.TimerHandle,
        channel: Channel,
    ) -> None:
        self.status = exchange.status
        self.headers = exchange.headers
        self._exchange = exchange
        self._connection = connection
        self._timer = timer
        self._channel = channel
        self._ended = False

    @property
    def unread_bytes(self) -> int:
        """What has come and has not been taken."""
        return self._exchange.size

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body's pieces as they come; TimeoutError or Broken when it does not end well."""
        try:
            while (chunk := await self._exchange.next()) is not None:
                yield chunk
        except BaseException:
            self.abort()
            raise
        self._timer.cancel()
        if not self._ended:
            self._ended = True
            self._channel.release(self._connection)

    async def read(self, limit: int) -> bytes:
        """What is left of the body, cut off at one byte more than ``limit``."""
        content = bytearray()
        async with contextlib.aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > limit:
                    break
        return bytes(content[: limit + 1])

    def abort(self) -> None:
        """End it at once, unless it has ended; whoever reads it gets Broken."""
        if self._ended:
            return  # the connection may be another request's by now
        self._ended = True
        self._timer.cancel()
        self._connection.fail(Broken("the caller has gone"))


class _Exchange:
    """What comes back to one request, gathered until it is complete."""

    def __init__(self, limit: int | None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limit = limit

    @property
    def settled(self) -> bool:
        return self.done.done()

    def late(self) -> None:
        self.fail(TimeoutError())

    def head(self) -> None:
        """Status and headers are known."""

    def received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.size += len(data)
        if self._limit is not None and self.size > self._limit:
            self.complete()

    def complete(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Streamed(_Exchange):
    """What comes back to one request, taken piece by piece."""

    def __init__(self, connection: "_Connection") -> None:
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


class _Connection(asyncio.Protocol):
    """One connection; the methods named ``on_…`` are called by the parser."""

    def __init__(self, register: set["_Connection"]) -> None:
        self.idle_since_s = 0.0
        self.usable = False
        self._register = register
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: _Exchange | None = None
        self._header_bytes = 0
        self._begun = False
        self._until_closed = False

    def begin(self, request: list[bytes], exchange: "_Exchange") -> None:
        """Send a request; ``exchange`` takes what comes back."""
        if not self.usable:  # it has ended since it was opened, and nobody would say so again
            exchange.fail(Broken("it closed the connection", sent=False))
            return
        self._exchange, self._begun, self._header_bytes = exchange, False, 0
        assert self._transport is not None
        for part in request:
            self._transport.write(part)

    def fail(self, error: Exception) -> None:
        """End the connection; the request under way fails with ``error``."""
        exchange, self._exchange = self._exchange, None
        self.abort()
        if exchange is not None:
            exchange.fail(error)

    def abort(self) -> None:
        """End the connection at once."""
        self.usable = False
        self._exchange = None
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
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._begun and self._until_closed and error is None:
            exchange.complete()
        else:
            reason = str(error) if error else "it closed the connection"
            exchange.fail(Broken(reason, status=exchange.status))

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.abort()  # nobody has asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(Broken(f"the answer is not HTTP/1.1: {error}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        self._header_bytes += len(name) + len(value)
        if exchange is None or self._begun:  # trailers
            return
        if self._header_bytes > MAX_HEADER_BYTES:
            self.fail(Broken(f"the answer's headers exceed {MAX_HEADER_BYTES} bytes"))
            return
        exchange.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._exchange is None:
            return
        status = self._parser.get_status_code()
        if status < 200:
            return  # 100 Continue and the like: the answer is still to come
        self._begun = True
        headers = self._exchange.headers
        self._until_closed = not ({"content-length", "transfer-encoding"} & headers.keys())
        self._exchange.status = status
        self._exchange.head()

    def on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.received(data)
            if self._exchange is not None and self._exchange.done.done():
                self.abort()  # enough has come to know that it is too much

    def on_message_complete(self) -> None:
        if self._exchange is None:
            return
        if not self._begun:
            self._exchange.headers.clear()
            return
        exchange, self._exchange = self._exchange, None
        self.usable = self._parser.should_keep_alive()
        exchange.complete()
