"""Bodies too large to hold: kept in a file from the first megabyte on.

For models with ``transform_stream_fn(model, stream, content_type, accept)``: ``stream`` is a binary
file that stands at its beginning, and the result may be an iterator of bytes.
"""

import tempfile
from collections.abc import Iterator
from typing import IO, Any

IN_MEMORY_BYTES = 1 << 20
PIECE_BYTES = 1 << 18


def spool() -> IO[bytes]:
    """A file that is on disk only when it grows; gone when it is closed."""
    return tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)


def spooled(result: Any) -> IO[bytes]:
    """What a model returned, in a file: bytes, text, or an iterator of bytes."""
    file = spool()
    try:
        if isinstance(result, str):
            result = result.encode()
        pieces = [result] if isinstance(result, bytes | bytearray | memoryview) else result
        for piece in pieces:
            file.write(piece)
    except BaseException:
        file.close()
        raise
    return file


def size_of(file: IO[bytes]) -> int:
    """Bytes in the file, which then stands at its beginning."""
    size = file.seek(0, 2)
    file.seek(0)
    return size


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """The file's bytes from where it stands."""
    while piece := file.read(PIECE_BYTES):
        yield piece
