"""The bodies of the requests, read from disk when they are sent."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from bench.bodies import make_stock
from bench.plan import Plan
from bench.stock import Piece, Stock, read_stock

Range = tuple["_OpenFile", int, int]

SMALL_BYTES = 64 * 1024
"""A larger body is not held in memory."""
TURN_BYTES = 2**20
"""One body takes no more of the event loop at a time than sending this much."""


class Bodies:
    """What a `Stock` has, for one process."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        # A view of numpy's memory: its own numbers cost several times as much to fetch.
        self._sizes = stock.sizes().data
        self.body_of = stock.body_of
        self._opened = lru_cache(maxsize=64)(_OpenFile)

    def size(self, body: int) -> int:
        """Bytes of a body."""
        found: int = self._sizes[body]
        return found

    def content(self, body: int) -> bytes:
        """A body whole: for small ones."""
        return b"".join(_read(file, start, length) for file, start, length in self.ranges(body))

    def remainder(self, body: int) -> "Remainder":
        """A body to be sent from the disk."""
        return Remainder(self.ranges(body))

    def body(self, body: int) -> "bytes | BodyReader":
        """A small body whole, a large one as a file, for clients that take either."""
        return self.content(body) if self.size(body) <= SMALL_BYTES else BodyReader(self, body)

    def close(self) -> None:
        """Let the files go."""
        self._opened.cache_clear()

    def ranges(self, body: int) -> Iterator[Range]:
        """File, start and length of each part of a body."""
        return self._each(self._stock.pieces_of(body))

    def _each(self, pieces: list[Piece]) -> Iterator[Range]:
        for number, start, length, times in pieces:
            file = self._opened(self._stock.files[number])
            for _ in range(times):
                yield file, start, length


@contextlib.contextmanager
def bodies_of(plan: Plan) -> Iterator[Bodies]:
    """The bodies that were made ready for the plan, or, under plain ``locust -f``, made now."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        if plan.stock is not None:
            stock = read_stock(Path(plan.stock))
        else:
            stock = make_stock(plan.workload, [Path(path) for path in plan.payloads], Path(folder))
        bodies = Bodies(stock)
        yield bodies
        bodies.close()


class Remainder:
    """What is left of a request, copied by the kernel from the disk to the socket."""

    def __init__(self, ranges: Iterator[Range]) -> None:
        self._ranges = ranges
        self._file: _OpenFile
        self._start = self._left = 0
        self.done = not self._next()

    def send(self, descriptor: int) -> None:
        """Send some of it; BlockingIOError when the socket takes no more for now."""
        budget = TURN_BYTES
        while budget > 0 and not self.done:
            count = os.sendfile(
                descriptor, self._file.descriptor, self._start, min(self._left, budget)
            )
            if count == 0:
                raise EOFError("the file has become shorter since the run began")
            self._start += count
            self._left -= count
            budget -= count
            self.done = not self._left and not self._next()

    def _next(self) -> bool:
        for file, start, length in self._ranges:
            if length:
                self._file, self._start, self._left = file, start, length
                return True
        return False


class BodyReader(io.RawIOBase):
    """A body as a seekable file that holds nothing."""

    def __init__(self, bodies: Bodies, body: int) -> None:
        self._bodies = bodies
        self._body = body
        self._at = self._begin = 0
        self._ranges: Iterator[Range] = iter(())
        self._range: Range
        self._restart()

    def __len__(self) -> int:
        return self._bodies.size(self._body)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        if self._at < self._begin:
            self._restart()
        filled = 0
        while filled < len(buffer) and self._at < len(self):
            while self._at >= self._begin + self._range[2]:
                self._begin += self._range[2]
                self._range = next(self._ranges)
            file, start, length = self._range
            skip = self._at - self._begin
            found = _read(file, start + skip, min(length - skip, len(buffer) - filled))
            buffer[filled : filled + len(found)] = found
            filled += len(found)
            self._at += len(found)
        return filled

    def _restart(self) -> None:
        """Go through the ranges from the first one; reading on goes on from where it was."""
        self._begin = 0
        self._ranges = self._bodies.ranges(self._body)
        self._range = next(self._ranges)


class _OpenFile:
    """A file that stays open for as long as anyone reads from it."""

    descriptor = -1

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _read(file: _OpenFile, start: int, length: int) -> bytes:
    found = os.pread(file.descriptor, length, start)
    if len(found) != length:
        raise EOFError("the file has become shorter since the run began")
    return found
