"""One connection of our servers: what uvicorn serves with, in place of its own protocol.

It is on the path of every request, so it does less: an answer leaves in one write, a connection
has one timer, and a small request that is complete may be answered by a plain call (``direct``)
instead of a task. A head that the parser has seen is not parsed again: callers send the same one
with each request.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.server import ServerState

from servers.exchange import SMALL_BYTES, STATUS_LINES, Exchange, Head, Headers

MAX_HEAD_BYTES = 64 * 1024
"""Most bytes of a request before its body."""

PIPELINED = 64
"""Most small requests of one connection that are answered at once; their answers keep the order."""

KNOWN_HEADS = 256
KNOWN_HEAD_BYTES = 2048
"""Only heads up to this size are remembered."""

_DIGITS = 5
_KNOWN_TARGETS = 256
_END = b"\r\n\r\n"


class Direct(Protocol):
    """Such as a dict."""

    def get(self, target: bytes, /) -> Callable[[Exchange], None] | None: ...


class HttpConnection(asyncio.Protocol):
    """What ``uvicorn.Config(http=…)`` takes; the methods named ``on_…`` are called by the parser.

    An application with an attribute ``direct`` names by it the call that answers a target, if there
    is one: a POST that says its length, at most SMALL_BYTES, is answered by it once it is complete.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        del app_state
        if not config.loaded:
            config.load()
        self.loop = _loop or asyncio.get_event_loop()
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.template: dict[str, Any] = {}
        self._app = cast(Any, config.loaded_app)
        self._direct: Direct = getattr(config.app, "direct", {})
        self._keep_alive_s = config.timeout_keep_alive
        self._state = server_state
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: bytes | None = None
        self._expects = False
        self._head_bytes = 0
        self._begun = 0
        """Requests that began in what was read last."""
        self._in_head = True
        self._between = True
        """The parser is at the beginning of a request."""
        self._plain: Head | None = None
        """The head of the request that was parsed last, if it says nothing out of the ordinary."""
        self._idle_since_s = self.loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._leaving: list[bytes] = []
        """What leaves at the end of this turn of the loop."""
        self._paused: asyncio.Future[None] | None = None
        self._closing = False

    def more_headers(self) -> Headers:
        """Those that the server puts into every answer."""
        return self._state.default_headers

    async def drained(self) -> None:
        """Return when the caller has taken enough of what was written."""
        if self._paused is not None:
            await asyncio.shield(self._paused)

    def read_on(self, on: bool) -> None:
        """Take more from the socket, or no more for now."""
        transport = self.transport
        if transport.is_closing():
            return
        waiting = self._exchanges
        # Beside one that is answered for itself no other is read.
        room = len(waiting) < 2 or (len(waiting) < PIPELINED and waiting[-1].begun)
        if on and room and not transport.is_reading():
            transport.resume_reading()
        elif not on and transport.is_reading():
            transport.pause_reading()

    def first(self, exchange: Exchange) -> bool:
        """Whether all earlier requests have been answered."""
        return not self._exchanges or self._exchanges[0] is exchange

    def followed(self, exchange: Exchange) -> bool:
        """Whether requests behind it are being answered, which an end would not let."""
        last = self._exchanges[-1] if self._exchanges else exchange
        return last is not exchange and last.begun

    def leave(self, parts: list[bytes]) -> None:
        """Send a part of the first answer; with those that are about to follow it, in one write."""
        if self._leaving or len(self._exchanges) > 1:
            if not self._leaving:
                self.loop.call_soon(self._flush)
            self._leaving += parts
        else:
            for part in parts:
                self.transport.write(part)

    def finished(self) -> None:
        """The first request has been answered: the next one's turn."""
        exchanges = self._exchanges
        answered = exchanges.popleft()
        while exchanges and answered.keep_alive and exchanges[0].held is not None:
            self.leave(exchanges[0].held)
            answered = exchanges.popleft()
        if not answered.keep_alive:
            self._flush()
            self.transport.close()
            return
        self._idle_since_s = self.loop.time()
        if exchanges and exchanges[0].held_app is not None:
            exchanges[0].start(exchanges[0].held_app)
        elif exchanges and not exchanges[0].begun:
            self.loop.call_soon(self._begin, exchanges[0])
        self.read_on(True)

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, []
        if leaving and not self.transport.is_closing():
            self.transport.writelines(leaving)

    def shutdown(self) -> None:
        """uvicorn's word that the server stops: what is under way is still answered."""
        self._closing = True
        if not self._exchanges:
            self.transport.close()
        else:
            self._exchanges[-1].keep_alive = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self.transport = cast(asyncio.Transport, transport)
        self._state.connections.add(cast(Any, self))
        self.template = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http",
            "root_path": "",
            "client": transport.get_extra_info("peername"),
            "server": transport.get_extra_info("sockname"),
        }
        self._idle_timer = self.loop.call_later(self._keep_alive_s, self._check_idle)

    def connection_lost(self, _: Exception | None) -> None:
        self._state.connections.discard(cast(Any, self))
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self.resume_writing()
        for exchange in self._exchanges:
            exchange.gone = True
            exchange.wake()
        self._exchanges.clear()
        del self._parser

    def pause_writing(self) -> None:
        self._paused = self.loop.create_future()

    def resume_writing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._between:
            data = self._after_known(data)
            if not data:
                return
        begins, self._begun = self._between, 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # we offer no other protocol, and have answered as if it had not been asked for
        except httptools.HttpParserError:
            self._refuse(400, b"Invalid HTTP request received.")
            return
        if begins and self._between:
            if self._plain is not None:
                _remember(data, self._plain)
        elif self._in_head:
            # How much of the data is of a head that began behind another request is not known.
            self._head_bytes += len(data) if self._begun <= begins else 0
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, b"The request's headers are over %d bytes." % MAX_HEAD_BYTES)

    def _after_known(self, data: bytes) -> bytes:
        """What is left behind the whole small requests with known heads; those are answered."""
        at, end = 0, len(data)
        while at < end:
            body_at = data.find(_END, at, at + KNOWN_HEAD_BYTES) + len(_END)
            head = _heads.get(data[at:body_at])
            if head is None or body_at + head.length > end or self.transport.is_closing():
                break
            handler = self._direct.get(head.target)
            if handler is None:
                break
            at = body_at + head.length
            exchange = Exchange(self, "POST", head)
            exchange.handler = handler
            if self._closing:
                exchange.keep_alive = False
            exchange.comes_whole(data[body_at:at])
            self._exchanges.append(exchange)
            self._arrived(exchange)
        return data[at:] if at else data

    def _arrived(self, exchange: Exchange) -> None:
        """Answer a request that is whole, now if all before it are being answered likewise."""
        exchanges, handler = self._exchanges, exchange.handler
        before = exchanges[-2] if len(exchanges) > 1 else None
        if handler is not None and (before is None or (before.begun and before.keep_alive)):
            exchange.answer(handler)
        if len(exchanges) > 1 and (len(exchanges) >= PIPELINED or not exchanges[-1].begun):
            self.read_on(False)

    def on_message_begin(self) -> None:
        self._target, self._headers, self._head_bytes = b"", [], 0
        self._length, self._expects, self._in_head = None, False, True
        self._between, self._plain = False, None
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._length = value
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        parser = self._parser
        self._in_head = False
        method = parser.get_method().decode("ascii")
        head = Head(self._target, self._headers)
        exchange = self._incoming = Exchange(self, method, head)
        version = parser.get_http_version()
        if version != "1.1":
            exchange.version = version
        if self._closing or version == "1.0" or not parser.should_keep_alive():
            exchange.keep_alive = False
        if self._expects:
            exchange.expects = True
        elif method == "POST" and self._length is not None:
            # The parser has checked that it is a number.
            small = len(self._length) <= _DIGITS and int(self._length) <= SMALL_BYTES
            exchange.handler = self._direct.get(self._target) if small else None
            if exchange.handler is not None and exchange.keep_alive:
                head.length = int(self._length)
                self._plain = head
        if exchange.handler is None:
            exchange.target = _parsed(self._target)
        self._exchanges.append(exchange)
        if exchange.handler is None:
            if len(self._exchanges) > 1:
                self.read_on(False)  # pipelined: one after the other
            else:
                self._begin(exchange)

    def on_body(self, body: bytes) -> None:
        if self._incoming is not None and not self._incoming.finished:
            self._incoming.received(body)

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        self._in_head = self._between = True
        self._head_bytes = 0
        if exchange is None or exchange.finished:
            return
        exchange.whole = True
        if exchange.handler is None:
            exchange.wake()
        else:
            self._arrived(exchange)

    def start(self, answering: Coroutine[Any, Any, None]) -> None:
        """Answer in a task, which the server waits for when it stops."""
        self._state.tasks.add(self.loop.create_task(self._noted(answering)))

    async def _noted(self, answering: Coroutine[Any, Any, None]) -> None:
        try:
            await answering
        finally:  # a callback of the task would cost the loop another step
            self._state.tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _begin(self, exchange: Exchange) -> None:
        if exchange.handler is None:
            exchange.start(self._app)
        elif exchange.whole and not exchange.gone:
            exchange.answer(exchange.handler)

    def _refuse(self, status: int, text: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._exchanges:  # they are answered first, and nothing after them
            self._exchanges[-1].keep_alive = False
            self.read_on(False)
            return
        head = b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINES[status] + head % len(text) + text)
        self.transport.close()

    def _check_idle(self) -> None:
        left_s = self._idle_since_s + self._keep_alive_s - self.loop.time()
        if left_s <= 0 and not self._exchanges:
            self.transport.close()
            return
        wait_s = left_s if left_s > 0 else self._keep_alive_s
        self._idle_timer = self.loop.call_later(wait_s, self._check_idle)


def _remember(data: bytes, head: Head) -> None:
    """Know the head again, if ``data`` is one request that is whole."""
    body_at = data.find(_END, 0, KNOWN_HEAD_BYTES) + len(_END)
    if len(data) == body_at + head.length:
        if len(_heads) >= KNOWN_HEADS:
            _heads.clear()
        _heads[data[:body_at]] = head


def _parsed(target: bytes) -> dict[str, Any]:
    """The parts of a request's target, as ASGI names them; those seen before are remembered."""
    found = _targets.get(target)
    if found is None:
        url = httptools.parse_url(target)
        path = (url.path or b"/").decode("ascii")
        found = {
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
        }
        if len(_targets) >= _KNOWN_TARGETS:
            _targets.clear()
        if len(target) <= 1024:
            _targets[target] = found
    return found


_targets: dict[bytes, dict[str, Any]] = {}

_heads: dict[bytes, Head] = {}
