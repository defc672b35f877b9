"""What gRPC puts into HTTP/2: heads of calls, messages with their length, statuses."""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import quote

from servers.header_blocks import Fields, written

MAX_HELD_BYTES = 2 * 2**30
"""Most bytes of messages that have not come to their end, in all calls; beyond it they fail."""

_PREFIX = struct.Struct(">BI")
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT_DIGITS = 8
_LONGEST_S = 365 * 86_400.0
_MAX_TEXT_BYTES = 4000  # gRPC's own clients refuse trailers of 8 KiB
_ENCODINGS = b"identity, deflate, gzip"

GRPC = b"application/grpc"
OPENING: Fields = [(b":status", b"200"), (b"content-type", GRPC)]
BEGIN = written(OPENING)
END = written([(b"grpc-status", b"0")])
NOT_GRPC = written([(b":status", b"415")])


class Status(IntEnum):
    """What a call ends with, as gRPC numbers it."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class Refused(Exception):
    """A call ends with a status; the text says why."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Head:
    """What a call's head asks for."""

    path: bytes
    encoding: bytes = b"identity"
    timeout_s: float | None = None
    is_grpc: bool = True


def read_head(fields: Fields) -> Head | None:
    """None if it is not that of a request."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if (name in found and name.startswith(b":")) or name != name.lower():
            return None
        found[name] = value
    if not found.get(b":path") or b":method" not in found or b":scheme" not in found:
        return None
    timeout_s, timeout = None, found.get(b"grpc-timeout")
    if timeout is not None:
        digits, unit_s = timeout[:-1], _UNITS_S.get(timeout[-1:])
        if unit_s is None or not digits.isdigit() or len(digits) > _TIMEOUT_DIGITS:
            return None
        timeout_s = min(int(digits) * unit_s, _LONGEST_S)
    kind = found.get(b"content-type", b"")
    is_grpc = found[b":method"] == b"POST" and kind.split(b"+")[0].split(b";")[0] == GRPC
    encoding = found.get(b"grpc-encoding", b"identity")
    return Head(found[b":path"], encoding, timeout_s, is_grpc)


def failure(status: Status, text: str) -> Fields:
    """The fields that end a call other than well."""
    fields = [(b"grpc-status", b"%d" % status), (b"grpc-message", _quoted(text))]
    if status == Status.UNIMPLEMENTED:
        fields.append((b"grpc-accept-encoding", _ENCODINGS))
    return fields


def _quoted(text: str) -> bytes:
    """Cut to what every client takes; a character that is cut in two is shown as it is."""
    return quote(text, safe=_PRINTABLE, errors="replace").encode()[:_MAX_TEXT_BYTES]


def framed(message: bytes) -> bytes:
    return _PREFIX.pack(0, len(message)) + message


class Held:
    """How much of all calls' messages is there before they are whole."""

    size = 0


class Inbox:
    """Puts the messages of one call together."""

    __slots__ = ("_buffer", "_encoding", "_held", "_limit")

    def __init__(self, encoding: bytes, limit: int, held: Held) -> None:
        self._encoding = encoding
        self._limit = limit
        self._held = held
        self._buffer: bytearray | None = None

    @property
    def partial(self) -> bool:
        """A message has begun and not ended."""
        return self._buffer is not None

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now; `Refused` when one cannot be had."""
        if self._buffer is None and len(data) >= _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(data)
            if not compressed and size == len(data) - _PREFIX.size <= self._limit:
                return [data[_PREFIX.size :]]  # the common case, without a buffer
        if self._buffer is None:
            self._buffer = bytearray()
        self._buffer += data
        self._held.size += len(data)
        if self._held.size > MAX_HELD_BYTES:
            raise Refused(Status.RESOURCE_EXHAUSTED, "Too many large messages are open at once.")
        return self._taken(self._buffer)

    def drop(self) -> None:
        """Forget what has not become a message."""
        if self._buffer is not None:
            self._held.size -= len(self._buffer)
            self._buffer = None

    def _taken(self, buffer: bytearray) -> list[bytes]:
        """The whole messages at the beginning, taken away from there."""
        messages: list[bytes] = []
        place = 0
        while len(buffer) - place >= _PREFIX.size:
            compressed, size = _PREFIX.unpack_from(buffer, place)
            if size > self._limit:
                raise _too_large(f"{size:,}", self._limit)
            after = place + _PREFIX.size + size
            if after > len(buffer):
                break
            message = bytes(memoryview(buffer)[place + _PREFIX.size : after])
            messages.append(self._unpacked(message) if compressed else message)
            place = after
        if place == len(buffer):
            self.drop()
        elif place:
            del buffer[:place]
            self._held.size -= place
        return messages

    def _unpacked(self, message: bytes) -> bytes:
        if self._encoding not in (b"gzip", b"deflate"):
            text = f"Messages packed as {self._encoding.decode('latin-1')!r} cannot be read."
            raise Refused(Status.UNIMPLEMENTED, text)
        inflater = zlib.decompressobj(47)  # either format, told by its first bytes
        try:
            whole = inflater.decompress(message, self._limit + 1)
        except zlib.error as error:
            text = f"A message is not what its grpc-encoding says: {error}."
            raise Refused(Status.INTERNAL, text) from None
        if len(whole) > self._limit:
            raise _too_large("more, unpacked", self._limit)
        return whole


def _too_large(size: str, limit: int) -> Refused:
    text = f"A message may have {limit:,} bytes; this one has {size}. Send less at once."
    return Refused(Status.RESOURCE_EXHAUSTED, text)
