"""The event stream that ``InvokeEndpointWithResponseStream`` answers with, frame by frame.

A frame: length of all, length of the headers, checksum of these; headers; payload; checksum.
"""

import json
import struct
import zlib

CONTENT_TYPE = "application/vnd.amazon.eventstream"

MAX_PART_BYTES = 2**20
"""Larger pieces become several frames."""

_PRELUDE = struct.Struct(">II")
_CHECKSUM = struct.Struct(">I")
_TEXT = 7


def part(payload: bytes) -> bytes:
    """Frames for a piece of the model's answer, as many as it needs."""
    pieces = range(0, len(payload), MAX_PART_BYTES)
    if len(pieces) == 1:
        return _PART.pack(payload)
    return b"".join(_PART.pack(payload[at : at + MAX_PART_BYTES]) for at in pieces)


def exception(kind: str, message: str, code: str | None = None) -> bytes:
    """A frame for an error that the API defines: ModelStreamError, InternalStreamFailure."""
    said = {"Message": message} | ({"ErrorCode": code} if code else {})
    headers = {
        ":message-type": "exception",
        ":exception-type": kind,
        ":content-type": "application/json",
    }
    return _Frame(headers).pack(json.dumps(said).encode())


class _Frame:
    """Frames that have the same headers."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = b"".join(_header(name, value) for name, value in headers.items())

    def pack(self, payload: bytes) -> bytes:
        length = 16 + len(self._headers) + len(payload)
        prelude = _PRELUDE.pack(length, len(self._headers))
        head = prelude + _CHECKSUM.pack(zlib.crc32(prelude)) + self._headers
        checksum = zlib.crc32(payload, zlib.crc32(head))
        return b"".join((head, payload, _CHECKSUM.pack(checksum)))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(f">B{len(key)}sBH", len(key), key, _TEXT, len(text)) + text


_PART = _Frame(
    {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
)
