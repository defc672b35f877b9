"""The bodies made ready: where each lies on the disk, so that none has to be held in memory.

A body is one or more pieces. A piece is a range of a file, taken once or many times: a body of a
gigabyte is a short block that is read a thousand times.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.payload import Sizes

PIECE = np.dtype([("file", "<u4"), ("offset", "<i8"), ("length", "<i8"), ("times", "<i8")])

Piece = tuple[int, int, int, int]
Pieces = npt.NDArray[np.void]


@dataclass(frozen=True, eq=False)
class Stock:
    """All bodies that a run may send."""

    files: tuple[Path, ...]
    pieces: Pieces
    firsts: Sizes
    """The first piece of each body, and the number of all pieces at the end."""
    order: Sizes
    """Which body each request has, again from the start when it ends; empty: one after another."""

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def body_of(self, seq: int) -> int:
        """The number of the body that request number ``seq`` has."""
        order = self._order
        return order[seq % len(order)] if order else seq % self._count

    @cached_property
    def _order(self) -> "memoryview[int]":
        return self.order.data  # its numbers are fetched several times as fast

    @cached_property
    def _count(self) -> int:
        return len(self)

    def pieces_of(self, body: int) -> list[Piece]:
        """File, offset, length and times of each piece."""
        found: list[Piece] = self.pieces[self.firsts[body] : self.firsts[body + 1]].tolist()
        return found

    def sizes(self) -> Sizes:
        """Bytes of each body."""
        lengths = np.concatenate(([0], np.cumsum(self.pieces["length"] * self.pieces["times"])))
        return np.asarray(np.diff(lengths[self.firsts]))

    def sent_sizes(self, count: int | None) -> Sizes:
        """Bytes of each body that is sent; ``count`` is the number of requests, if it is known."""
        sizes = self.sizes()
        if len(self.order):
            return np.asarray(sizes[self.order[: count or len(self.order)]])
        return sizes[: count or len(sizes)]

    def write(self, folder: Path) -> None:
        """Keep it for `read_stock`."""
        names = [str(file.resolve()) for file in self.files]
        (folder / "files.json").write_text(json.dumps(names), encoding="utf-8")
        for name in ("pieces", "firsts", "order"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)


def read_stock(folder: Path) -> Stock:
    """What `Stock.write` wrote to ``folder``."""
    files = tuple(map(Path, json.loads((folder / "files.json").read_text(encoding="utf-8"))))
    arrays = [np.load(folder / f"{name}.npy") for name in ("pieces", "firsts", "order")]
    return Stock(files, *arrays)


def stock_of(files: tuple[Path, ...], bodies: Iterator[list[Piece]], order: Sizes) -> Stock:
    """A stock from the pieces of each body."""
    pieces: list[Piece] = []
    firsts = [0]
    for body in bodies:
        pieces += body
        firsts.append(len(pieces))
    return Stock(files, np.array(pieces, PIECE), np.array(firsts), order)


def stock_of_ranges(file: Path, offsets: Sizes, lengths: Sizes) -> Stock:
    """A stock of which each body is one range of the file."""
    pieces = np.zeros(len(offsets), PIECE)
    pieces["offset"], pieces["length"], pieces["times"] = offsets, lengths, 1
    return Stock((file,), pieces, np.arange(len(offsets) + 1), np.empty(0, np.int64))


def stock_of_files(files: list[Path], order: Sizes) -> Stock:
    """A stock of which each body is a file."""
    bodies = ([(number, 0, file.stat().st_size, 1)] for number, file in enumerate(files))
    return stock_of(tuple(files), bodies, order)
