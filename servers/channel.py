"""Kept HTTP/1.1 connections to one container: one request at a time on each.

A lean client, because it is on the path of every request: no redirects, cookies or compression.
To a container that says so, small requests go one behind the other on a connection that they share
(RFC 9112, 9.3.2), so that those of one moment cost one write, and their answers one.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any

from msgspec import Struct

from servers.client_connection import Awaited, Broken, ClientConnection, Received, Streamed
from servers.exchange import SMALL_BYTES
from servers.patience import Patience
from servers.wire import Answer

IDLE_S = 1.5
"""An idle connection is not used again after this: common servers close theirs after 2 s."""

PIPELINED = 32
"""Most requests on the connection that is shared; more go their own ways."""

KNOWN_HEADS = 64
KNOWN_LIMITS = 16


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
        self.pipelined = False
        """The container has said that it answers small requests behind one another."""
        self._shared: ClientConnection | None = None
        self._sharing = asyncio.Lock()
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
        self._closed = False
        self._heads: dict[tuple[object, ...], bytes] = {}
        """Requests without their length, which are much alike."""
        self._patiences: dict[float, Patience] = {}
        """By how long an answer may take; there are few of these."""

    def ask(self, call: Call, limit: int, timeout_s: float) -> Coroutine[Any, Any, Answer]:
        """The whole answer, cut off at one byte more than ``limit``.

        TimeoutError after ``timeout_s``, Broken when the connection ends first.
        """
        if self._may_share(call):
            return self._ask_shared(call, limit, timeout_s)
        return self._ask_alone(call, limit, timeout_s)

    def begin(self, call: Call, received: Received, timeout_s: float) -> ClientConnection | None:
        """Ask on the shared connection if it takes one more now; else None, and nothing is done.

        ``received`` is told what `ask` would give or raise. Retire the connection after an error.
        """
        connection = self._shared
        if connection is None or not self._may_share(call) or not self._takes_more(connection):
            return None
        self._within(timeout_s).begin(received)
        connection.follow(self._request(call), received)
        return connection

    def _may_share(self, call: Call) -> bool:
        small = call.method == "POST" and len(call.body) <= SMALL_BYTES
        return self.pipelined and small and self.shared_waiting < PIPELINED

    async def _ask_alone(self, call: Call, limit: int, timeout_s: float) -> Answer:
        connection, received = await self._connection(), Awaited(limit)
        self._within(timeout_s).begin(received)
        connection.begin(self._request(call), received)
        try:
            await received.done
        except BaseException:
            received.settled = True
            connection.abort()
            raise
        self.release(connection)
        return Answer(received.status, received.body(), received.headers)

    async def _ask_shared(self, call: Call, limit: int, timeout_s: float) -> Answer:
        connection, received = self._shared, Awaited(limit)
        if connection is None or not self._takes_more(connection):
            connection = await self._next_shared()
        self._within(timeout_s).begin(received)
        connection.follow(self._request(call), received)
        try:
            await received.done
        except BaseException as error:
            # What is behind it may still be answered; what comes goes elsewhere.
            received.settled = True
            connection.retire()
            if isinstance(error, Broken) and not error.sent:  # who closes may still listen
                return await self._ask_alone(call, limit, timeout_s)
            raise
        return Answer(received.status, received.body(), received.headers)

    @property
    def shared_waiting(self) -> int:
        """Requests under way on the connection that is shared."""
        return 0 if self._shared is None else self._shared.waiting

    async def _next_shared(self) -> ClientConnection:
        async with self._sharing:  # those of one moment share it
            connection = self._shared
            if connection is None or not self._takes_more(connection):
                if connection is not None:
                    connection.retire()
                connection = self._shared = await self._connection()
                connection.idle_since_s = time.monotonic()
            return connection

    @staticmethod
    def _takes_more(connection: ClientConnection) -> bool:
        if not connection.usable or connection.retired:
            return False
        return bool(connection.waiting) or connection.idle_since_s > time.monotonic() - IDLE_S

    async def open(self, call: Call, timeout_s: float) -> "Stream":
        """The answer's head, its body to be read as it comes; the time is that of the whole."""
        connection = await self._connection()
        received = Streamed(connection)
        connection.begin(self._request(call), received)
        timer = asyncio.get_running_loop().call_later(timeout_s, connection.fail, TimeoutError())
        try:
            await received.begun
        except BaseException:
            timer.cancel()
            connection.abort()
            raise
        return Stream(received, connection, timer, self)

    def close(self) -> None:
        """End every connection; what is under way is Broken."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            connection.fail(Broken("the connections were closed"))

    async def _connection(self) -> ClientConnection:
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
                    lambda: ClientConnection(self._open), self._host, self._port
                )
        except TimeoutError:
            limit = f"it did not accept a connection within {self._connect_timeout_s:g} s"
            raise Broken(limit, sent=False) from None
        except OSError as error:
            raise Broken(error.strerror or str(error), sent=False) from error
        return connection

    def release(self, connection: ClientConnection) -> None:
        """Keep the connection for the next request, if it may be kept."""
        if not connection.usable or self._closed:
            connection.abort()
            return
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
        received: Streamed,
        connection: ClientConnection,
        timer: asyncio.TimerHandle,
        channel: Channel,
    ) -> None:
        self.status = received.status
        self.headers = received.headers
        self._received = received
        self._connection = connection
        self._timer = timer
        self._channel = channel
        self._ended = False

    @property
    def unread_bytes(self) -> int:
        """What has come and has not been taken."""
        return self._received.size

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body's pieces as they come; TimeoutError or Broken when it does not end well."""
        try:
            while (chunk := await self._received.next()) is not None:
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
