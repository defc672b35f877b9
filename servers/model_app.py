"""What the container answers: ``/ping``, ``/invocations`` and ``/execution-parameters``.

Under ``/v2`` it speaks the Open Inference Protocol too, if it is given one (`servers.oip_http`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import orjson

from servers.batcher import Batcher, Overloaded, Ticket, timeout_text
from servers.engine import Close, Next
from servers.exchange import PIPELINED, Exchange
from servers.handlers import Answer, Request
from servers.loop_sink import LoopSink
from servers.spool import pieces_of, size_of
from servers.spool import spool as spool_file

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Direct = Callable[[Exchange], None]

EXECUTION_PARAMETERS = orjson.dumps(
    {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}
)


@dataclass(frozen=True)
class Startup:
    """Seconds of each part of a cold start, as the container itself saw them."""

    import_s: float = 0.0
    load_s: float = 0.0
    warmup_s: float = 0.0


@dataclass(frozen=True)
class Served:
    """What the application is made of."""

    batcher: Batcher
    startup: Startup
    max_payload_bytes: int
    spools: bool = False
    """Whether the model takes and gives its bodies as files."""
    open_inference: App | None = None
    joins: bool = False
    """Whether it computes several requests together: then they may come behind one another."""


class TooLarge(Exception):
    """The body is over the limit."""


class Gone(Exception):
    """The caller hung up before its body was complete."""


class ModelApp:
    """An ASGI application, and the calls that answer small requests without it."""

    def __init__(self, app: App, direct: dict[bytes, Direct]) -> None:
        self._app = app
        self.direct = direct

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._app(scope, receive, send)


def make_app(served: Served) -> ModelApp:
    """The container as an application."""
    timing = served.startup
    ping_timing = server_timing(
        {"import": timing.import_s, "load": timing.load_s, "warmup": timing.warmup_s}
    )

    more = {PIPELINED.replace("-", "_"): b"1"} if served.joins and not served.spools else {}

    async def ping(_: Scope, __: Receive, send: Send) -> None:
        await respond(send, 200, b"", "text/plain", server_timing=ping_timing, **more)

    async def execution_parameters(_: Scope, __: Receive, send: Send) -> None:
        await respond(send, 200, EXECUTION_PARAMETERS, content_type="application/json")

    invocations = _Invocations(served)
    routes: dict[str, tuple[str, App]] = {
        "/ping": ("GET", ping),
        "/invocations": ("POST", invocations),
        "/execution-parameters": ("GET", execution_parameters),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        method, answer = routes.get(path, (None, None))
        if answer is None:
            if served.open_inference is not None and (path == "/v2" or path.startswith("/v2/")):
                await served.open_inference(scope, receive, send)
                return
            await respond(send, 404, f"No such path. There are {', '.join(routes)}.".encode())
        elif scope["method"] != method:
            allow = (method or "").encode()
            await respond(send, 405, f"Use {method} for {path}.".encode(), allow=allow)
        else:
            await answer(scope, receive, send)

    direct = {} if served.spools else {b"/invocations": invocations.direct}
    return ModelApp(app, direct | getattr(served.open_inference, "direct", {}))


class _Invocations:
    """``/invocations``: as an application, and for a small request as a call."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._limit = served.max_payload_bytes
        self._sink = LoopSink(served.batcher)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue_s = 0.0
        spool = _Spool() if self._served.spools else None
        try:
            body, headers = await read_body(scope, receive, self._limit, spool)
            file = spool.rewound() if spool else None
            answer, ticket = await self._sink.call(_request(body, headers, file))
            queue_s = ticket.queue_s
        except TooLarge as error:
            answer = _refusal(413, str(error))
        except Overloaded as error:
            answer = _refusal(503, str(error))
        except TimeoutError:
            answer = self._late()
        except Gone:
            return
        finally:
            if spool is not None:
                spool.close()
        await self._give((receive, send), answer, queue_s)

    def direct(self, exchange: Exchange) -> None:
        """Answer a request that is whole."""
        body = exchange.body()
        if len(body) > self._limit:
            _reply(exchange, _refusal(413, _too_large(self._limit)), 0.0)
            return
        try:
            settle = partial(exchange.answer, self._settle)
            self._sink.submit(_request(body, exchange.named()), settle)
        except Overloaded as error:
            _reply(exchange, _refusal(503, str(error)), 0.0)

    def _settle(self, exchange: Exchange, ticket: Ticket) -> None:
        answer: Answer = self._late() if ticket.given_up else ticket.answer
        if answer.rest is None and answer.stream is None:
            _reply(exchange, answer, ticket.queue_s)
            return

        async def at_length(_: Scope, receive: Receive, send: Send) -> None:
            await self._give((receive, send), answer, ticket.queue_s)

        exchange.start(at_length)

    async def _give(self, wire: tuple[Receive, Send], answer: Answer, queue_s: float) -> None:
        header, send = _timing_of(answer, queue_s), wire[1]
        if answer.rest is not None:
            await _stream(wire, answer, header, self._sink)
        elif answer.stream is not None:
            await _respond_file(send, answer, header)
        else:
            status, kind = answer.status, answer.content_type
            await respond(send, status, answer.body, kind, server_timing=header)

    def _late(self) -> Answer:
        return _refusal(503, timeout_text(self._served.batcher.timeout_s))


def _request(body: bytes, headers: Mapping[str, str], file: IO[bytes] | None = None) -> Request:
    return Request(body, headers.get("content-type"), headers.get("accept"), headers, file)


def _reply(exchange: Exchange, answer: Answer, queue_s: float) -> None:
    """The same as `respond` would send."""
    kind = b"content-type: %b\r\n" % answer.content_type.encode("latin-1") if answer.body else b""
    timing = _timing_of(answer, queue_s)
    exchange.reply(answer.status, answer.body, b"%bserver-timing: %b\r\n" % (kind, timing))


class _Spool:
    """Takes the pieces of a body into a file."""

    def __init__(self) -> None:
        self._file = spool_file()

    def append(self, piece: bytes) -> None:
        self._file.write(piece)

    def rewound(self) -> IO[bytes]:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


async def _respond_file(send: Send, answer: Answer, timing: bytes) -> None:
    """The whole answer out of its file, piece by piece."""
    assert answer.stream is not None
    with answer.stream as file:
        headers = [
            (b"content-length", b"%d" % size_of(file)),
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"server-timing", timing),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for piece in pieces_of(file):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _refusal(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), "text/plain")


async def _stream(
    wire: tuple[Receive, Send], answer: Answer, timing: bytes, sink: LoopSink
) -> None:
    """The pieces as they are made, each asked for when the one before has left.

    A failure amid the answer breaks the connection off: the status is long sent.
    """
    receive, send = wire
    rest: Iterator[bytes] | None = answer.rest
    gone = asyncio.ensure_future(receive())  # the request is read: only its caller's end can come
    headers = [(b"content-type", answer.content_type.encode("latin-1")), (b"server-timing", timing)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    try:
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        while rest is not None and not gone.done():
            piece, _ = await sink.call(Next(rest))
            if piece.failure is not None:
                raise StreamFailed(piece.failure)
            if piece.body is None:
                rest = None
            elif piece.body:  # an empty chunk would end the answer
                await send({"type": "http.response.body", "body": piece.body, "more_body": True})
    finally:
        gone.cancel()
        if rest is not None:
            with contextlib.suppress(Overloaded, TimeoutError):
                await sink.call(Close(rest))
    await send({"type": "http.response.body", "body": b""})


class StreamFailed(Exception):
    """The model failed after the answer had begun."""


def server_timing(spans_s: dict[str, float]) -> bytes:
    """The value of a Server-Timing header: milliseconds with three decimals."""
    return ", ".join(f"{name};dur={value * 1e3:.3f}" for name, value in spans_s.items()).encode()


def _timing_of(answer: Answer, queue_s: float) -> bytes:
    return (
        f"queue;dur={queue_s * 1e3:.3f}, decode;dur={answer.decode_s * 1e3:.3f}, "
        f"predict;dur={answer.predict_s * 1e3:.3f}, encode;dur={answer.encode_s * 1e3:.3f}"
    ).encode()


async def read_body(
    scope: Scope, receive: Receive, limit: int, spool: _Spool | None = None
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers; TooLarge or Gone when there is no whole body to be had.

    With a ``spool`` the body goes there and none is returned.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    # The parser below has checked that it is a number; without it the body comes in chunks.
    if int(headers.get("content-length", 0)) > limit:
        raise TooLarge(_too_large(limit))
    message = await receive()
    if spool is None and message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")  # the common case: all in one piece, not copied
        if len(body) > limit:
            raise TooLarge(_too_large(limit))
        return body, headers
    chunks: list[bytes] = []
    taken = chunks if spool is None else spool
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        taken.append(chunk)
        size += len(chunk)
        if size > limit:
            raise TooLarge(_too_large(limit))
        if not message.get("more_body", False):
            return b"".join(chunks), headers
        message = await receive()


def _too_large(limit: int) -> str:
    return f"The body is over {limit:,} bytes. Send less at once."


async def respond(
    send: Send, status: int, body: bytes, content_type: str = "text/plain", **more: bytes
) -> None:
    """A whole answer; names in ``more`` become headers, with hyphens."""
    headers = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", content_type.encode("latin-1")))
    headers += [(name.replace("_", "-").encode(), value) for name, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
