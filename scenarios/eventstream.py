"""Errors inside an answer that is a stream of events, where the status has long been 200."""

import struct

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_FRAME_BYTES = 32 * 2**20
"""The format allows frames of 16 MiB; a larger one is none."""

_PRELUDE = struct.Struct(">III")  # bytes of the frame, bytes of its headers, checksum
_CHECKSUM_BYTES = 4
_TEXT = 7


class Frames:
    """Reads frames as their bytes come; ``error`` is the first error among them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.error = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self.error:
            return
        self._buffer += data
        while len(self._buffer) >= _PRELUDE.size:
            total, headers, _ = _PRELUDE.unpack_from(self._buffer)
            if not _PRELUDE.size + headers + _CHECKSUM_BYTES <= total <= MAX_FRAME_BYTES:
                self.error = "BadStream"
                return
            if len(self._buffer) < total:
                return
            self._look(bytes(self._buffer[_PRELUDE.size : _PRELUDE.size + headers]))
            del self._buffer[:total]

    def end(self) -> None:
        """The stream is over; a frame that was cut off is an error too."""
        if self._buffer and not self.error:
            self.error = "BadStream"

    def _look(self, headers: bytes) -> None:
        found = _texts(headers)
        if found is None:
            self.error = "BadStream"
        elif found.get(":message-type") in ("exception", "error"):
            named = found.get(":exception-type") or found.get(":error-code")
            self.error = named or "StreamError"


def _texts(headers: bytes) -> dict[str, str] | None:
    """The headers that are texts, as all of SageMaker's are; None when they cannot be read."""
    found, at = {}, 0
    try:
        while at < len(headers):
            length = headers[at]
            name = headers[at + 1 : at + 1 + length].decode()
            at += 1 + length
            if headers[at] != _TEXT:
                return None
            (size,) = struct.unpack_from(">H", headers, at + 1)
            found[name] = headers[at + 3 : at + 3 + size].decode()
            at += 3 + size
    except (IndexError, struct.error, UnicodeDecodeError):
        return None
    return found
