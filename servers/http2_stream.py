"""One request and its answer on an HTTP/2 connection, and what leaves that connection.

What is sent waits for the windows that the peer grants, for each stream and for all together.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from servers.frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    Broken,
    Code,
    Kind,
    frame,
    header,
    window_update,
)

STREAM_WINDOW = 2**20
"""Bytes of a request that may come unasked; they are granted again as its call takes them."""

CHUNK_BYTES = 2**18
"""Of what leaves in parts, what is handed to the socket at once."""


class Call(Protocol):
    """What a request's body is given to; nothing of it raises."""

    def received(self, data: bytes) -> None: ...
    def ended(self) -> None: ...
    def drained(self) -> None:
        """All that was sent has left."""

    def cancelled(self) -> None:
        """Nobody waits for the answer any more."""


class Outflow:
    """What leaves a connection, in one write a turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport) -> None:
        self.window = DEFAULT_WINDOW
        """Bytes of bodies that the peer takes, and…"""
        self.frame_bytes = MAX_FRAME_BYTES
        """…in one frame."""
        self._loop = loop
        self._transport = transport
        self._parts: list[bytes | memoryview] = []
        self._size = 0
        self._paused = False
        self._blocked: dict[int, Stream] = {}

    @property
    def full(self) -> bool:
        """Enough is on its way to the socket."""
        return self._paused or self._size >= CHUNK_BYTES

    def write(self, data: bytes | memoryview) -> None:
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)

    def flush(self) -> None:
        """Hand over what is written, and let streams go on if there is room."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
            self._pump()

    def pause(self, paused: bool) -> None:
        """Heed the transport, which says when it has too much."""
        self._paused = paused
        self._pump()

    def wait(self, stream: "Stream") -> None:
        """Let a stream go on when there is room again."""
        self._blocked[stream.id] = stream

    def forget(self, stream: "Stream") -> None:
        self._blocked.pop(stream.id, None)

    def widen(self, more: int) -> None:
        """The peer takes so much more."""
        self.window += more
        if self.window > MAX_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self._pump()

    def _pump(self) -> None:
        while self._blocked and self.window > 0 and not self.full:
            stream_id = next(iter(self._blocked))
            self._blocked.pop(stream_id).pump()


class Stream:
    """A `Call` hears of the request and gives the answer; ``done`` is told when it is complete."""

    __slots__ = ("_done", "_ending", "_out", "_outbox", "_room", "call", "ended", "id", "window")

    def __init__(
        self, out: Outflow, stream_id: int, window: int, done: "Callable[[Stream], None]"
    ) -> None:
        self.id = stream_id
        self.window = window
        """Bytes of the body that the peer takes."""
        self.ended = False
        """The request is whole."""
        self.call: Call = cast(Call, None)
        self._out = out
        self._done = done
        self._room = STREAM_WINDOW
        self._outbox: deque[memoryview] = deque()
        self._ending: bytes | None = None

    @property
    def unsent(self) -> bool:
        """Something waits for the peer to take more."""
        return bool(self._outbox)

    def take(self, size: int) -> None:
        """The peer has used so much of what it was granted."""
        self._room -= size
        if self._room < 0:
            raise Broken(Code.FLOW_CONTROL_ERROR, "a stream is over its window")

    def grant(self) -> None:
        """Let more of the request come."""
        more = STREAM_WINDOW - self._room
        if more >= STREAM_WINDOW // 2 and not self.ended:
            self._room = STREAM_WINDOW
            self._out.write(window_update(self.id, more))

    def respond(self, head: bytes, body: bytes, ending: bytes) -> None:
        """Give the whole answer: two header blocks and what is between them."""
        out, size = self._out, len(body)
        if out.full or size > min(self.window, out.window, out.frame_bytes):
            self.begin(head)
            self.send(body)
            self.finish(ending)
            return
        out.window -= size
        opening = header(len(head), Kind.HEADERS, END_HEADERS, self.id)
        middle = header(size, Kind.DATA, 0, self.id)
        closing = header(len(ending), Kind.HEADERS, END_HEADERS | END_STREAM, self.id)
        out.write(b"".join((opening, head, middle, body, closing, ending)))
        self._done(self)

    def begin(self, head: bytes) -> None:
        self._out.write(frame(Kind.HEADERS, END_HEADERS, self.id, head))

    def send(self, body: bytes) -> None:
        """Send a part of the body, now or when the peer takes it."""
        self._outbox.append(memoryview(body))
        self.pump()

    def finish(self, ending: bytes) -> None:
        """End the answer with a header block, once all before it has left."""
        self._ending = ending
        if not self._outbox:
            self._finish()

    def widen(self, more: int) -> None:
        """The peer takes so much more, or less, of this body."""
        self.window += more
        if self.window > MAX_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "a stream's window is too large")
        if self._outbox:
            self.pump()

    def pump(self) -> None:
        """Send what there is room for."""
        out, outbox = self._out, self._outbox
        while outbox:
            rest = outbox[0]
            size = min(len(rest), self.window, out.window, out.frame_bytes)
            if out.full or size <= 0 < len(rest):
                if self.window > 0:
                    out.wait(self)
                return
            self.window -= size
            out.window -= size
            out.write(header(size, Kind.DATA, 0, self.id))
            out.write(rest[:size])
            outbox[0] = rest[size:]
            if size == len(rest):
                outbox.popleft()
        if self._ending is not None:
            self._finish()
        else:
            self.call.drained()

    def _finish(self) -> None:
        assert self._ending is not None
        flags = END_HEADERS | END_STREAM
        self._out.write(frame(Kind.HEADERS, flags, self.id, self._ending))
        self._done(self)
