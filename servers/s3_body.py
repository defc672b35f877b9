"""The body of a request to the object store: as it was sent, unwrapped, checked on the way."""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from servers.store import PIECE_BYTES, Pieces, StoreError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BYTES = 5 * 2**30
"""Largest object in one put, and largest part, as in S3."""
_MAX_LINE = 4096


def body_of(receive: Receive, headers: dict[str, str]) -> Pieces:
    """The object's bytes in pieces; StoreError when they are not what the headers promise."""
    pieces = _received(receive)
    if _wrapped(headers):
        pieces = _unwrapped(pieces)
    return _checked(_gathered(pieces), headers)


async def small_body(receive: Receive, limit: int) -> bytes:
    """The whole of a body that may not be large."""
    body = bytearray()
    async for piece in _received(receive):
        body += piece
        if len(body) > limit:
            raise StoreError(400, "EntityTooLarge", f"This body may have {limit} bytes at most.")
    return bytes(body)


def _wrapped(headers: dict[str, str]) -> bool:
    return headers.get("x-amz-content-sha256", "").startswith("STREAMING-") or (
        "aws-chunked" in headers.get("content-encoding", "")
    )


async def _received(receive: Receive) -> AsyncIterator[bytes]:
    more, size = True, 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise StoreError(400, "IncompleteBody", "The connection closed before the body's end.")
        more = message.get("more_body", False)
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BYTES:
            raise StoreError(400, "EntityTooLarge", "An object or part has at most 5 GiB.")
        if piece:
            yield piece


async def _gathered(pieces: Pieces) -> AsyncIterator[bytes]:
    """The same bytes in pieces of the size that a thread is worth."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        if len(buffer) >= PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


async def _unwrapped(pieces: Pieces) -> AsyncIterator[bytes]:
    """The data of "aws-chunked": ``SIZE;signature CRLF data CRLF …``, signatures unchecked."""
    buffer, left = bytearray(), 0
    async for piece in pieces:
        buffer += piece
        while buffer:
            if left > 2:  # data, and the line's end after it
                data = bytes(buffer[: left - 2])
                left -= len(data)
                del buffer[: len(data)]
                yield data
            elif left:
                taken = min(left, len(buffer))
                left -= taken
                del buffer[:taken]
            else:
                line, found, _ = buffer.partition(b"\r\n")
                if not found:
                    if len(buffer) > _MAX_LINE:
                        raise _broken()
                    break
                del buffer[: len(line) + 2]
                size = _size(line)
                if size == 0:
                    return  # what follows are trailers
                left = size + 2
    raise _broken()


def _size(line: bytearray) -> int:
    text = bytes(line.partition(b";")[0])
    try:
        size = int(text, 16)
    except ValueError:
        raise _broken() from None
    if not 0 <= size <= MAX_BYTES:
        raise _broken()
    return size


def _broken() -> StoreError:
    return StoreError(400, "IncompleteBody", "The body is not what aws-chunked says it is.")


async def _checked(pieces: Pieces, headers: dict[str, str]) -> AsyncIterator[bytes]:
    checks = list(_checks(headers))
    size = 0
    async for piece in pieces:
        size += len(piece)
        for check in checks:
            check.update(piece)
        yield piece
    length = headers.get("x-amz-decoded-content-length") or headers.get("content-length")
    if length is not None and length.isdecimal() and int(length) != size:
        raise StoreError(400, "IncompleteBody", f"{length} bytes were promised, {size} came.")
    for check in checks:
        check.finish()


class _Check:
    """One digest of the body against the one in a header."""

    def __init__(self, header: str, wanted: str, digest: Any, *, hexadecimal: bool = False) -> None:
        self._header, self._wanted, self._digest = header, wanted, digest
        self._hexadecimal = hexadecimal
        self.update = digest.update

    def finish(self) -> None:
        found = self._digest.digest()
        text = found.hex() if self._hexadecimal else base64.b64encode(found).decode()
        if text != self._wanted:
            raise StoreError(400, "BadDigest", f"{self._header} is not that of the bytes received.")


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, piece: bytes) -> None:
        self._value = zlib.crc32(piece, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_DIGESTS: dict[str, Callable[[], Any]] = {
    "content-md5": lambda: hashlib.md5(usedforsecurity=False),
    "x-amz-checksum-crc32": _Crc32,
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
}


def _checks(headers: dict[str, str]) -> list[_Check]:
    found = [
        _Check(name, headers[name], make()) for name, make in _DIGESTS.items() if name in headers
    ]
    wanted = headers.get("x-amz-content-sha256", "")
    if not found and len(wanted) == 64:  # else it is a word such as UNSIGNED-PAYLOAD
        found = [_Check("x-amz-content-sha256", wanted, hashlib.sha256(), hexadecimal=True)]
    return found
