"""Where objects are read from and written to: a file, or an S3 address over HTTP.

A location is ``file:///path`` or ``http://host:port/bucket/key``. What is written is a draft in a
local folder first, and appears under its name as a whole or not at all.
"""

import contextlib
import errno
import http.client
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from servers.splitting import BadObject

CHUNK_BYTES = 1 << 20
STORE_TIMEOUT_S = 60.0


class StoreFailed(Exception):
    """The object could not be read or written; the text says why."""


def read_chunks(location: str, gzip: bool = False) -> Iterator[bytes]:
    """The object's bytes in pieces of at most a few MiB; unpacked if it is ``gzip``.

    StoreFailed when it cannot be read, BadObject when it is no gzip file.
    """
    chunks = _file_chunks(location) if location.startswith("file:") else _http_chunks(location)
    return _unpacked(chunks) if gzip else chunks


class Draft:
    """What is being written for a location. Not there until `publish`; gone when the block ends."""

    def __init__(self, location: str, path: Path) -> None:
        self._location = location
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self.bytes = 0

    def __enter__(self) -> "Draft":
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        # Closing writes what is held back, which a full disk refuses once more.
        with contextlib.suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self.bytes += len(content)

    def publish(self) -> None:
        """Put the whole under its name, safe on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._location.startswith("file:"):
            _move(self._path, file_path(self._location))
        else:
            _put(self._location, self._path)


def file_location(path: Path) -> str:
    return f"file://{quote(str(path.absolute()))}"


def file_path(location: str) -> Path:
    """The file of a ``file:`` location."""
    return Path(unquote(urlsplit(location).path))


def _file_chunks(location: str) -> Iterator[bytes]:
    try:
        with file_path(location).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise StoreFailed(f"{file_path(location).name} cannot be read: {error.strerror}") from error


def _http_chunks(location: str) -> Iterator[bytes]:
    parts = urlsplit(location)
    connection = http.client.HTTPConnection(parts.netloc, timeout=STORE_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        if response.status != 200:
            raise StoreFailed(f"the store answered {response.status} for {parts.path}")
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise StoreFailed(f"{parts.path} cannot be read from the store: {error}") from error
    finally:
        connection.close()


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip file may be several one after the other."""
    unpacker, open_member = zlib.decompressobj(31), False
    try:
        for chunk in chunks:
            while chunk:
                open_member = True
                yield from _nonempty(unpacker.decompress(chunk, CHUNK_BYTES))
                while unpacker.unconsumed_tail:
                    yield from _nonempty(unpacker.decompress(unpacker.unconsumed_tail, CHUNK_BYTES))
                chunk = unpacker.unused_data
                if unpacker.eof:
                    unpacker, open_member = zlib.decompressobj(31), False
        if open_member:
            raise BadObject("the gzip file is cut short")
    except zlib.error as error:
        raise BadObject(
            f"it is not a gzip file, although CompressionType says so: {error}"
        ) from None


def _nonempty(piece: bytes) -> Iterator[bytes]:
    if piece:
        yield piece


def _move(draft: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(draft, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another disk: the copy gets the name only when it is whole.
        beside = target.with_name(f".{target.name}.part")
        with draft.open("rb") as source, beside.open("wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
            _sync(copy)
        os.replace(beside, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _put(location: str, draft: Path) -> None:
    parts = urlsplit(location)
    connection = http.client.HTTPConnection(parts.netloc, timeout=STORE_TIMEOUT_S)
    try:
        with draft.open("rb") as body:
            length = {"Content-Length": str(draft.stat().st_size)}
            connection.request("PUT", parts.path, body, length)
            response = connection.getresponse()
            answer = response.read(10_000)
        if response.status != 200:
            text = answer.decode("utf-8", "replace")
            raise StoreFailed(f"the store answered {response.status} for {parts.path}: {text}")
    except (OSError, http.client.HTTPException) as error:
        raise StoreFailed(f"{parts.path} cannot be written to the store: {error}") from error
    finally:
        connection.close()
