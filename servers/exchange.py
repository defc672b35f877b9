"""One request and its answer on an HTTP/1.1 connection, for an ASGI application or a plain call."""

import asyncio
import http
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, Protocol, Self, TypeVar, cast

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]
Headers = Iterable[tuple[bytes, bytes]]

T = TypeVar("T")

SMALL_BYTES = 64 * 1024
"""Up to this size head and body of an answer leave in one write; more of a request waits unread."""

PIPELINED = "x-weighbridge-pipelined"
"""A header of our model server's /ping: small requests behind one another are answered together."""

STATUS_LINES = {number: b"HTTP/1.1 %d \r\n" % number for number in range(100, 600)} | {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in http.HTTPStatus
}
_NO_BODY = (204, 304)
_UNPRINTABLE = re.compile(b"[\x00-\x08\x0a-\x1f\x7f]")

log = logging.getLogger(__name__)


class Wire(Protocol):
    """What an exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    template: dict[str, Any]

    def more_headers(self) -> Headers: ...
    async def drained(self) -> None: ...
    def read_on(self, on: bool) -> None: ...
    def start(self, answering: Coroutine[Any, Any, None]) -> None: ...
    def first(self, exchange: "Exchange") -> bool: ...
    def followed(self, exchange: "Exchange") -> bool: ...
    def leave(self, parts: list[bytes]) -> None: ...
    def finished(self) -> None: ...


class Head:
    """The head of a request; those that are much sent are parsed once, and shared."""

    __slots__ = ("_made", "headers", "length", "target")

    def __init__(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.target = target
        self.headers = headers
        """Names in lower case. Nobody changes them."""
        self.length = 0
        """Of the body."""
        self._made: dict[Callable[[Self], Any], Any] = {}

    def once(self, make: Callable[[Self], T]) -> T:
        """What ``make`` makes of it; made once, for it depends on nothing else."""
        found = self._made.get(make)
        if found is None:
            found = self._made[make] = make(self)
        return cast(T, found)


def named(head: Head) -> Mapping[str, str]:
    """The headers by name; a model's program sees them, and cannot change them."""
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return MappingProxyType(found)


class Exchange:
    """The request as it comes in, and the answer as it goes out.

    Either `run` lets an ASGI application answer, or a call answers a complete request by `reply`.
    """

    # Defaults of the class cost nothing to set.
    version = "1.1"
    keep_alive = True
    expects = False
    """The caller waits for ``100 Continue`` before it sends the body."""
    whole = False
    """All of the request is here."""
    gone = False
    """The caller has hung up."""
    finished = False
    handler: "Callable[[Exchange], None] | None" = None
    """Answers it once it is whole; else it is for the application."""
    begun = False
    """Its handler has been called."""
    held: list[bytes] | None = None
    """The whole answer, which waits for those of earlier requests."""
    held_app: App | None = None
    """Answers it when those of earlier requests have left."""
    target: Mapping[str, Any] = MappingProxyType({})
    """Path and query, as ASGI names their parts."""
    _size = 0
    _taken = False
    _waiter: asyncio.Future[None] | None = None
    _started = False
    _head: bytes | None = None
    _chunked = False
    _left: int | None = None

    def __init__(self, wire: Wire, method: str, head: Head) -> None:
        self.method = method
        self.head = head
        self._wire = wire
        self._chunks: list[bytes] = []

    def named(self) -> Mapping[str, str]:
        """The headers by name, in lower case."""
        return self.head.once(named)

    def body(self) -> bytes:
        """What has come of the body and was not taken yet."""
        chunks = self._chunks
        if len(chunks) == 1:
            [whole] = chunks  # the common case, not copied
        else:
            whole = b"".join(chunks)
        self._chunks = []
        self._size = 0
        self._taken = self.whole
        return whole

    def comes_whole(self, body: bytes) -> None:
        """The body, which is small, was there with the head."""
        self._chunks.append(body)
        self.whole = True

    def received(self, data: bytes) -> None:
        """A piece of the body has come."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > SMALL_BYTES:
            self._wire.read_on(False)
        if self._waiter is not None:
            self.wake()

    def wake(self) -> None:
        """Something has happened that `receive` may be waiting for."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def reply(self, status: int, body: bytes, headers: bytes) -> None:
        """The whole answer to a request that is whole; ``headers`` end in a line break each."""
        if self.finished or self.gone:
            return
        wire = self._wire
        self._started = True
        self._close_if_unread()
        ending = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        for name, value in wire.more_headers():
            headers += name + b": " + value + b"\r\n"
        head = b"%bcontent-length: %d\r\n%b%b" % (STATUS_LINES[status], len(body), headers, ending)
        parts = _parts(head, b"" if self.method == "HEAD" else body)
        self.finished = True
        if self._waiter is not None:
            self.wake()
        if wire.first(self):
            wire.leave(parts)
            wire.finished()
        else:
            self.held = parts

    def start(self, app: App) -> None:
        """Let an ASGI application answer, in a task of its own, when it is this one's turn."""
        if self._wire.first(self):
            self._wire.start(self.run(app))
        else:
            self.held_app = app

    def begin(self, answering: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine see to it, in a task of its own, that there will be a `reply`."""
        self._wire.start(answering)

    async def run(self, app: App) -> None:
        """Let an ASGI application answer; what it fails to send becomes a 500, or a broken end."""
        scope = {**self._wire.template, **self.target}
        scope |= {"method": self.method, "http_version": self.version, "headers": self.head.headers}
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            log.exception("the answer to a request failed")
        if self.finished or self.gone:
            return
        if self._started:
            self._flush()
            self._wire.transport.close()  # the caller must not take it for a whole answer
        else:
            self._fail()

    def answer(self, call: "Callable[..., None]", *arguments: Any) -> None:
        """Call what is to `reply`, or to see to it; when it fails, a 500 is the answer."""
        self.begun = True
        try:
            call(self, *arguments)
        except Exception:
            log.exception("the answer to a request failed")
            self._fail()

    def _fail(self) -> None:
        self.keep_alive = self._wire.followed(self)
        self.reply(500, b"Internal Server Error", b"content-type: text/plain\r\n")

    async def receive(self) -> Message:
        """ASGI: the next piece of the body, or the caller's end."""
        if self.expects and not self.gone:
            self._wire.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects = False
        while not (self.gone or self.finished):
            if (self._chunks or self.whole) and not self._taken:
                self._wire.read_on(True)
                return {"type": "http.request", "body": self.body(), "more_body": not self.whole}
            self._waiter = self._wire.loop.create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI: the head of the answer, then its body."""
        await self._wire.drained()
        if self.gone:
            return
        if not self._started:
            assert message["type"] == "http.response.start", message["type"]
            self._begin(message["status"], message.get("headers", ()))
            return
        if self.finished:
            raise RuntimeError("The answer has been sent already.")
        self._piece(message.get("body", b""), message.get("more_body", False))

    def _begin(self, status: int, headers: Headers) -> None:
        """Make the head. It leaves with the body, or after one turn of the loop."""
        parts = [STATUS_LINES[status]]
        for name, value in (*self._wire.more_headers(), *headers):
            if name == b"content-length":
                self._left = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
                continue
            parts += (name, b": ", value, b"\r\n")
        if _UNPRINTABLE.search(b"".join(parts).replace(b"\r\n", b"", len(parts) // 4 + 1)):
            raise RuntimeError("A header of the answer has characters that cannot be sent.")
        self._close_if_unread()
        self._started = True
        if self.method == "HEAD" or status in _NO_BODY:
            self._left = None
        elif self._left is None:
            self._chunked = self.version == "1.1"
            if self._chunked:
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False  # its end is the end of the body
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(parts)
        self._wire.loop.call_soon(self._flush)

    def _piece(self, body: bytes, more: bool) -> None:
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left > 0 and not more):
                raise RuntimeError("The answer is not as long as its content-length says.")
        elif self._chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = framed if more else framed + b"0\r\n\r\n"
        elif self.method == "HEAD":
            body = b""
        head, self._head = self._head, None
        self._write(head or b"", body)
        if not more:
            self._finish()

    def _flush(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            self._wire.transport.write(head)

    def _write(self, head: bytes, body: bytes) -> None:
        if head or body:
            self._wire.leave(_parts(head, body))

    def _close_if_unread(self) -> None:
        if self.expects and not self.whole:  # what comes next may be its body or a request
            self.keep_alive = False

    def _finish(self) -> None:
        self.finished = True
        self.wake()
        self._wire.finished()


def _parts(head: bytes, body: bytes) -> list[bytes]:
    """What is small leaves as one; what is large is not copied."""
    return [head + body] if len(body) <= SMALL_BYTES else [head, body] if head else [body]
