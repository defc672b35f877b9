"""The frames of HTTP/2 (RFC 9113) as bytes: how they are made, and what may be in them."""

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first."""

HEADER = struct.Struct(">HBBBI")
"""A frame's length (its upper 16 bits, its lower 8), kind, flags and stream."""

MAX_FRAME_BYTES = 16_384
"""What either side takes unless it says more; we say nothing."""

DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1

_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
_PRIORITY_BYTES = 5


class Kind(IntEnum):
    """Kinds of frames; others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Broken(Exception):
    """The peer broke the protocol: the connection cannot go on."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """What stands before a frame's content."""
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, content: bytes = b"") -> bytes:
    return header(len(content), kind, flags, stream_id) + content


def reset(stream_id: int, code: Code) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def window_update(stream_id: int, more: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(more))


def goaway(last_id: int, code: Code, text: str = "") -> bytes:
    """No stream after ``last_id`` is or will be served."""
    content = _NUMBER.pack(last_id) + _NUMBER.pack(code) + text.encode()
    return frame(Kind.GOAWAY, 0, 0, content)


def settings(values: dict[int, int]) -> bytes:
    content = b"".join(_SETTING.pack(*each) for each in values.items())
    return frame(Kind.SETTINGS, 0, 0, content)


def read_settings(content: bytes) -> Iterator[tuple[int, int]]:
    """The peer's settings, each checked."""
    if len(content) % _SETTING.size:
        raise Broken(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
    for name, value in _SETTING.iter_unpack(content):
        if name == ENABLE_PUSH and value > 1:
            raise Broken(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        if name == MAX_FRAME_SIZE and not MAX_FRAME_BYTES <= value < 2**24:
            raise Broken(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
        yield name, value


def read_number(content: bytes) -> int:
    """The 31 bits that a WINDOW_UPDATE or RST_STREAM consists of."""
    if len(content) != _NUMBER.size:
        raise Broken(Code.FRAME_SIZE_ERROR, "a frame of one number has a wrong size")
    (number,) = _NUMBER.unpack(content)
    return int(number) & MAX_WINDOW


def unpadded(flags: int, content: bytes) -> bytes:
    """What is in DATA or HEADERS, without padding and without priority."""
    start, end = 0, len(content)
    if flags & PADDED:
        if not content:
            raise Broken(Code.FRAME_SIZE_ERROR, "a padded frame is empty")
        start, end = 1, end - content[0]
    if flags & WITH_PRIORITY:
        start += _PRIORITY_BYTES
    if start > end:
        raise Broken(Code.PROTOCOL_ERROR, "a frame is shorter than its padding")
    return content[start:end]
