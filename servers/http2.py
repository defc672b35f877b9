"""A server's connection over HTTP/2 (RFC 9113), whose peer is never trusted.

Frames are read here; what a request means is for the `Application`. Whatever could grow has a
limit: header blocks, streams at once, what comes and what leaves unasked. A peer that does not take
its answers is not read from either, so it cannot make us pile up more of them.
"""

import asyncio
import logging
from collections.abc import Callable, MutableSet
from typing import Any, Protocol, cast

from servers.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_BYTES,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    PADDED,
    PREFACE,
    Broken,
    Code,
    Kind,
    frame,
    goaway,
    read_number,
    read_settings,
    reset,
    settings,
    unpadded,
    window_update,
)
from servers.header_blocks import MAX_BYTES, Fields, Reader
from servers.http2_stream import CHUNK_BYTES, STREAM_WINDOW, Call, Outflow, Stream

MAX_STREAMS = 1000
"""Most requests at once on a connection; a client keeps the rest to itself."""

CONNECTION_WINDOW = 4 * STREAM_WINDOW

GREETING_S = 20
"""A connection that has not said by then that it speaks HTTP/2 is closed."""

PARTING_S = 1
"""How long a client may take to hear that the server stops, or why it is cut off."""

_PARTING = b"stopping"
_SIZES: dict[int, int] = {Kind.PRIORITY: 5, Kind.PING: 8}
_OF_STREAMS = {Kind.DATA, Kind.HEADERS, Kind.PRIORITY, Kind.RST_STREAM, Kind.CONTINUATION}
_OF_CONNECTION = {Kind.SETTINGS, Kind.PING, Kind.GOAWAY}

log = logging.getLogger(__name__)


class Application(Protocol):
    """What a connection serves."""

    def describe(self, fields: Fields) -> Any:
        """What a request's head asks for, alike for the same fields; None if it is malformed."""

    def open(self, stream: Stream, head: Any) -> Call:
        """Begin to serve a request."""


class Connection(asyncio.Protocol):
    """Serves one peer; ``connections`` holds it while it is open, as uvicorn's state does."""

    def __init__(self, application: Application, connections: MutableSet[Any]) -> None:
        self._application = application
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, None)
        self._out = cast(Outflow, None)
        self._reader = Reader(application.describe)
        self._streams: dict[int, Stream] = {}
        self._stream_window = DEFAULT_WINDOW
        self._room = CONNECTION_WINDOW
        self._last_id = 0
        self._rest = b""
        self._greeted = False
        """The preface has come, and…"""
        self._settled = False
        """…the peer's settings after it."""
        self._partial: tuple[int, int, bytes] | None = None
        """Stream, flags and beginning of a header block that goes on."""
        self._stopping = False
        self._parted = False
        """The client knows that it is not to send any more."""
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._readers: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._data,
            Kind.HEADERS: self._headers,
            Kind.RST_STREAM: self._reset,
            Kind.SETTINGS: self._settings,
            Kind.PING: self._ping,
            Kind.WINDOW_UPDATE: self._window_update,
            Kind.CONTINUATION: self._continuation,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(CHUNK_BYTES)
        self._connections.add(self)
        self._out = Outflow(self._loop, self._transport)
        self._timer = self._loop.call_later(GREETING_S, self._transport.abort)
        limits = {
            MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            MAX_HEADER_LIST_SIZE: MAX_BYTES,
        }
        self._out.write(settings(limits))
        self._out.write(window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def connection_lost(self, _: Exception | None) -> None:
        self._over = True
        self._connections.discard(self)
        self._rearm(None)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.call.cancelled()

    def pause_writing(self) -> None:
        self._out.pause(True)
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._out.pause(False)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        try:
            self._feed(data)
        except Broken as error:
            self._cut_off(error.code, str(error))
        except Exception:
            log.exception("a connection over HTTP/2 failed")
            self._cut_off(Code.INTERNAL_ERROR, "")

    def shutdown(self) -> None:
        """Answer what is there, then close.

        The client is told twice: at first to send no more, and once its answer to a ping shows that
        it knows, where the last of its requests is.
        """
        if not self._settled:
            self._close()
        elif not self._stopping and not self._over:
            self._stopping = True
            self._out.write(goaway(MAX_WINDOW, Code.NO_ERROR))
            self._out.write(frame(Kind.PING, 0, 0, _PARTING))
            self._rearm(self._loop.call_later(PARTING_S, self._part))

    def _part(self) -> None:
        if not self._parted:
            self._parted = True
            self._rearm(None)
            self._out.write(goaway(self._last_id, Code.NO_ERROR))
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._parted and not self._streams:
            self._close()

    def _close(self) -> None:
        self._over = True
        self._out.flush()
        self._transport.close()

    def _cut_off(self, code: Code, why: str) -> None:
        log.info("a connection over HTTP/2 is cut off: %s", why)
        if not self._over:
            self._out.write(goaway(self._last_id, code, why))
            self._close()
            self._rearm(self._loop.call_later(PARTING_S, self._transport.abort))

    def _rearm(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _feed(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        place, end = 0, len(data)
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise Broken(Code.PROTOCOL_ERROR, "this is not HTTP/2 with prior knowledge")
            if end < len(PREFACE):
                self._rest = data
                return
            self._greeted, place = True, len(PREFACE)
        while end - place >= HEADER.size and not self._over:
            high, low, kind, flags, stream_id = HEADER.unpack_from(data, place)
            start = place + HEADER.size
            after = start + (high << 8 | low)
            if after - start > MAX_FRAME_BYTES:
                raise Broken(Code.FRAME_SIZE_ERROR, "a frame is too large")
            if after > end:
                break
            place = after
            self._frame(kind, flags, stream_id & MAX_WINDOW, data[start:after])
        self._rest = data[place:]

    def _frame(self, kind: int, flags: int, stream_id: int, content: bytes) -> None:
        if not self._settled:
            if kind != Kind.SETTINGS or flags & ACK:
                raise Broken(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._settled = True
            self._rearm(None)
        if self._partial is not None and (
            kind != Kind.CONTINUATION or stream_id != self._partial[0]
        ):
            raise Broken(Code.PROTOCOL_ERROR, "a header block is interrupted")
        if (kind in _OF_CONNECTION) if stream_id else (kind in _OF_STREAMS):
            raise Broken(Code.PROTOCOL_ERROR, f"frame {kind} cannot be on stream {stream_id}")
        if len(content) != _SIZES.get(kind, len(content)):
            raise Broken(Code.FRAME_SIZE_ERROR, f"frame {kind} has a wrong size")
        if kind == Kind.PUSH_PROMISE:
            raise Broken(Code.PROTOCOL_ERROR, "a client promises nothing")
        read = self._readers.get(kind)
        if read is not None:
            read(flags, stream_id, content)

    def _data(self, flags: int, stream_id: int, content: bytes) -> None:
        size = len(content)
        self._room -= size
        if self._room < 0:
            raise Broken(Code.FLOW_CONTROL_ERROR, "the connection is over its window")
        if self._room <= CONNECTION_WINDOW // 2:
            self._out.write(window_update(0, CONNECTION_WINDOW - self._room))
            self._room = CONNECTION_WINDOW
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id)
            return  # it was answered before it was whole, or given up
        if stream.ended:
            raise Broken(Code.STREAM_CLOSED, "a request goes on after its end")
        stream.take(size)
        if flags & PADDED:
            content = unpadded(flags & PADDED, content)
        if content:
            stream.call.received(content)
        if flags & END_STREAM:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        stream.ended = True
        stream.call.ended()

    def _headers(self, flags: int, stream_id: int, content: bytes) -> None:
        self._partial = (stream_id, flags, b"")
        self._continuation(flags, stream_id, unpadded(flags, content))

    def _continuation(self, flags: int, stream_id: int, content: bytes) -> None:
        if self._partial is None:
            raise Broken(Code.PROTOCOL_ERROR, "there is no header block to continue")
        _, first_flags, block = self._partial
        block += content
        if len(block) > MAX_BYTES:
            raise Broken(Code.ENHANCE_YOUR_CALM, f"a header block is over {MAX_BYTES} bytes")
        if not flags & END_HEADERS:
            self._partial = (stream_id, first_flags, block)
            return
        self._partial = None
        self._request(stream_id, self._reader.read(block), bool(first_flags & END_STREAM))

    def _request(self, stream_id: int, head: Any, whole: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:  # fields after the body; nothing is asked by them
            if stream.ended or not whole:
                raise Broken(Code.PROTOCOL_ERROR, "a request has a second head")
            self._end(stream)
            return
        if stream_id <= self._last_id:
            return  # it was answered before it was whole, or given up
        if not stream_id & 1:
            raise Broken(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        self._last_id = stream_id
        if head is None:
            self._out.write(reset(stream_id, Code.PROTOCOL_ERROR))
            return
        if self._parted or len(self._streams) >= MAX_STREAMS:
            self._out.write(reset(stream_id, Code.REFUSED_STREAM))
            return
        stream = Stream(self._out, stream_id, self._stream_window, self._done)
        self._streams[stream_id] = stream
        stream.call = self._application.open(stream, head)
        if whole:
            self._end(stream)

    def _done(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        if not stream.ended:
            self._out.write(reset(stream.id, Code.NO_ERROR))  # the rest of the request is no use
        self._close_if_idle()

    def _reset(self, _: int, stream_id: int, content: bytes) -> None:
        read_number(content)
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            self._check_known(stream_id)
            return
        self._out.forget(stream)
        stream.call.cancelled()
        self._close_if_idle()

    def _settings(self, flags: int, _: int, content: bytes) -> None:
        if flags & ACK:
            if content:
                raise Broken(Code.FRAME_SIZE_ERROR, "an acknowledgement says more")
            return
        for name, value in read_settings(content):
            if name == MAX_FRAME_SIZE:
                self._out.frame_bytes = value
            elif name == INITIAL_WINDOW_SIZE:
                more, self._stream_window = value - self._stream_window, value
                for stream in list(self._streams.values()):
                    stream.widen(more)
        self._out.write(frame(Kind.SETTINGS, ACK, 0))

    def _ping(self, flags: int, _: int, content: bytes) -> None:
        if not flags & ACK:
            self._out.write(frame(Kind.PING, ACK, 0, content))
        elif content == _PARTING and self._stopping:
            self._part()

    def _window_update(self, _: int, stream_id: int, content: bytes) -> None:
        more = read_number(content)
        if not more:
            raise Broken(Code.PROTOCOL_ERROR, "a window is widened by nothing")
        if stream_id == 0:
            self._out.widen(more)
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.widen(more)
        else:
            self._check_known(stream_id)

    def _check_known(self, stream_id: int) -> None:
        if stream_id > self._last_id or not stream_id & 1:
            raise Broken(Code.PROTOCOL_ERROR, f"stream {stream_id} was never opened")
